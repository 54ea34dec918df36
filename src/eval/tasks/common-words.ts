/** Plain English words for keys and values: adjectives that are no nouns, nouns, and verbs. Word pairs give about 50,000 keys. */
export const ADJECTIVES: readonly string[] = `
able absent active actual afraid alive ancient angry anxious aware bare basic beautiful big bitter blind bold brave brief
broad broken busy calm careful careless cheap clean clever cloudy clumsy coastal common correct costly crazy crooked crude
cruel curious daily damp dangerous dear deep dense dirty distant dizzy dull dusty eager early eastern easy elastic elegant
empty endless entire equal exact excellent extra faint fair faithful false familiar famous fancy far fast fearful fertile
fierce final firm foolish former foggy fragile frequent fresh friendly frozen funny gentle genuine giant glad gloomy
golden graceful grand grateful great greedy guilty handsome handy happy harmless harsh healthy heavy helpful hidden hollow
honest huge humble hungry icy ideal idle important innocent jealous jolly joyful keen kind large late lazy likely lively
lonely long loose loud lovely loyal lucky mad main merry mighty mild modern modest muddy narrow nasty natural neat nervous
new nice noble noisy northern obvious odd old open painful pale patient peaceful perfect pleasant polite poor popular
powerful precious pretty proper proud pure quick rapid rare raw ready real recent regular rich ripe rough rude rural rusty
sacred sad safe salty scared serious severe shallow sharp shiny shy silent silly similar simple sincere skinny sleepy slim
slow small smooth sober soft solar solid sore sour southern special steady steep sticky stiff strange strict strong stupid
sturdy sudden sunny sure sweet swift tall tame tasty tender terrible thick thin thirsty thorough tidy tight tiny tired
tough true ugly unique upset urban useful usual vague vast violent visible vivid warm weak wealthy weary western wet
wicked wide wild wise witty wonderful wooden worthy young`
  .trim()
  .split(/\s+/);

export const NOUNS: readonly string[] = `
acid actor air anchor angle animal apple arch arm army arrow artist atom autumn baby bag ball band bank barn basin basket
bath battle beach beam bean bear beard bed bee bell belt bench berry bird blade blood board boat body bone book border
bottle bottom bowl box boy brain branch brass bread brick bridge brother brush bucket bundle bush butter button cabin cake
camera camp canal candle captain card castle cat cattle cause cave ceiling cell center chain chair chalk chapter cheese
chest chicken child church circle city class clay clerk cliff clock cloth cloud coal coast coat coin collar column cook
copper corn corner cotton cousin cow cream crowd crown cup current curtain cycle daughter desert desk device dinner dish
doctor dog door dream dress drum duck dust eagle ear earth edge egg elbow engine evening eye face factory family farmer
father feather fence field finger fire fish flag flame flower fly food foot forest fork fox frame friend frog fruit garden
gas gate ghost giant girl glass glove goat grain grape grass group guest gun hair hammer hand harbor hat heart helmet hen
hill hole honey hook horse hospital hotel hour house hunter ice idea ink iron island jacket jar jaw jewel judge juice key
king kitchen kite knee knife knot ladder lady lake lamb lamp lawyer leaf leather leg lemon lesson letter library light lion
lip liquid log lord lunch machine maid mail map market marsh mask meadow meal meat medicine metal meter mile milk mind
mirror moment money monkey month moon morning mother mountain mouse mouth mud muscle music nail name nation neck needle
nerve nest net night noise nose nurse oak ocean office oil onion orange orchard organ oven owl owner ox page paint pair
palace paper parent park part path pear pen pencil people pepper person photo piano picture pig pillow pilot pin pipe
planet plant plate plow pocket poem poet point pond pool porch port pot potato powder prince prison pupil purse queen
rabbit rail rain ray reader rice ring river road robin rock roof room root rope rose rule sail salt sand scale school
scissors sea season seat seed shadow sheep sheet shelf shell ship shirt shoe shop shore shoulder shovel sign silk silver
sister skin skirt sky smoke snail snake snow soap sock soil soldier son song soup spade spider spoon spring square stable
stage stair star station steam steel stem step stick stocking stomach stone store storm story stove stranger straw stream
street string student sugar suit summer sun surface table tail tailor teacher team temple tent theater thread throat
thumb ticket tiger timber tin toe tongue tool tooth tower town toy trade trail train tray tree triangle tribe truck trunk
tube tunnel turkey uncle valley vapor vessel village voice wagon wall water wave wax weather web week weight wheat wheel
whistle widow window wine wing winter wire wolf woman wood wool word worker world worm wrist yard year zoo`
  .trim()
  .split(/\s+/);

export const VERBS: readonly string[] = `
accept admire agree allow appear apply arrange arrive arrest ask attach avoid bake become begin behave believe belong
blink borrow bring build burn bury carry catch chew choose climb close collect compare complain connect consider contain
continue cough count create cry decide deliver deny describe destroy discover divide draw drink drive earn eat enjoy enter
escape examine exist expect explain fail feed fetch fight find follow forget forgive gather give grow guess happen hear
hide hold hope improve include invent invite join jump kneel know laugh learn leave lend listen live lose make melt mix
move obey offer open paint pour praise prefer prepare prevent produce promise protect prove pull push put raise reach read
receive recognize refuse remain remember remove repair repeat reply report rescue return ride rise run save say search
seem sell send serve sew shine shout show sing sit sleep smell smile speak spell spend spill stand start stay steal
stretch suggest suppose swim take teach tell think throw touch travel try turn understand unite use visit wait wake walk
want warn wash watch wear weave whisper win wish wonder write`
  .trim()
  .split(/\s+/);

export const WORDS: readonly string[] = [...new Set([...ADJECTIVES, ...NOUNS, ...VERBS])].sort();
