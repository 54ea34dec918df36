/**
 * Plain English words for keys and values: those that occur at least ten times in held-out text, of the 45,000 entries of
 * WordNet 3.1 (Princeton University) that training took its lists from (training/build_corpus.py, prep.py). Only in these
 * is the bundled model reliable: it spells few other words right where an answer begins with them.
 */
export const ADJECTIVES: readonly string[] = `
abandoned able absent absolute academic according acting actual advanced affected afraid after ahead alive all alone
amiable angry another anterior anxious apart appointed arranged asleep assisted attached available back bad based
beautiful becoming big bigger both bound bowed bright brilliant broad broken burned busy careful certain changed
charming cheerful chopped civil clean clinical close closed clothed collected committed common complete composed
concave concealed connected conscious contented continued convex convinced cross cultural curious dangerous dark
dashed dead deadly delicate destroyed determined developed devoted different dim direct directed dirty distant
distinct disturbed diverse divided doctoral domestic done drawn dreamed dressed dried dull eager earlier early easy
economic effective eight employed empty engaged essential even every excellent express expressed expressive extreme
fallen false fancy fast fastened feeble few fierce filled fine finished first fitted fixed focused following fond
forced foreign free fresh full furnished further future gentle glad golden gone grateful greater half handed hard
headed heard hearty hidden higher historical honest hot human hurt ill implicit important impossible increased
inhabited innocent instant intended internal intimate involved joined kind kindly laid landed late latter laughing
least legal less lighted like liked likely limited little live loaded local long lost loud made male many measured
melted mental minor missing modern more most narrow near necessary needed neither new nice noticed nuclear numerous
occupied odd off opened opposite other painted patient perfect placed plain pleasant pleased pointed polished
political popular preserved previous proper proved public pure quiet raised rapid rare reasonable received red
reflected related religious reserved rich rising rough running rusted same saved scattered scientific secure
sensitive separate serious settled seven shared sharp short silent silver similar single six sixty slow smaller
smooth social soft sold some sought southern speaking special specific spoken steady still strange stretched strong
stuck successful such supported supposed surprised suspected tall then thick thin thirteen thrown tied tight true two
unable understood upper used useful very visible waiting wanted weak welcome western wet whispered white whole wild
willing won wooden working worse written yellow`
  .trim()
  .split(/\s+/);

export const NOUNS: readonly string[] = `
ability access account accused act action active address admiration adult advance advantage adventure affair affairs
affect afternoon age agency agreement aid alarm alley amount analysis ancient answer appearance approach area arm
arrest arrival article aside aspect attachment attention attitude authority baby bag ball balloon band bank bar base
basic basis basket bath beard beast beauty bed beginning behavior bell bench benefit bent best bet better bias
billion bit bite black blood blue board boat body bondage book boot bottle bottom bow box branch brave bread break
breast breathing brief brother brown building burden burning business bye cab cake call can capital car care carpet
carriage cart case cast castle catch cause cell center central ceremony chain chalk chamber change chapter character
charge charm cheek child chin chop circus city claim class classroom clause clear clerk cloud club coach coachman
coal coast coat cold collection college comfort command commerce community company complex concept concern condition
conditions conductor confidence conflict connection consul contrary contrast control convention cool core corn corner
cotton country courage course court cousin creature credit crime crossing crowd crown cry culture cupboard curiosity
current curvature curve cut cycle cyclone daily damp dancing danger darkness date day days deal death decision deep
degree demand departure desert desire despite details detective diagram difference difficulty dinner direction
discovery dish dispatch distance diversity doctor dog don door doubt down draw drawer drawing dream dress drink
drinking drive driver driving drop drove dry due dug duty earth ease east eccentric economy edge education effect
efficiency egg eighty elephant eleven emotion empire employment end enemy energy engine engineer entrance escape
estimate evidence evil exercise expansion expense experience expression eye face fact failure fair fall familiar
family farmer fashion fat father fear feature feeling fell fellow felt fence field fifty fight figure film finding
finger finish fire fish fit five flat flies flight floor flower fluid fly focus folly food foot force forest form
former fortune forty forward found four freedom friend friendly frock front fruit function gain game garden gas gate
gaze general get given glass going gold good government governor gown grain grant gratitude grave gravity gray great
green groan ground group growing growl growth guard guess guide guinea gulf habit hair hand handful handle hanging
happiness harness head hearing heart heat heavy hedge here high history hold hole home hope horse hospital hound hour
hours house hurry husband idea identity image impact importance impression incident income index individual
inequality influence ink inside intent interest iron issue job joke joker jolly journey jump jury keep key kill
kindness king kiss kitchen knee know knowing lady lamp land lap large last law lead left leg length letter level
liberty lie life light likeness line list listening living look looking loss love low luck lunch lying machine maid
mail main major majority man manner mansion mare mark market marriage married mass master match material matter
maximum meal mean meaning measure meat meet meeting member mention mere message middle midnight midst might mile
million mind mine minority minute misfortune mist mistake mistress model moment money moor morrow mother motion mouse
mouth move movement much mud music must name nation national natural nature neck need negative news night noise north
nose note nothing notice now number object offer office oil one open opening opposition order ordinary organic origin
original out outside over owner page pain pair paper part particular parts party pass passage passenger passing
passion passport past path pause peace people peoples perception period permission person pick picture pipe pit place
plan play playing pleasure plenty pocket point pole policy politics population port position positive possible post
pot practice presence present president pressure price pride primary principal prison prisoner private problem
process produce progress project promise proof property prospect protection psychology pull purchase quarter question
quick rabbit race radius rail rain raising range rash rate ray reach read reading ready real reality rear reason
reflection regard regular relations relief remains report request respect response rest result return review ribbon
rider right ring rise risk river robbery roll roof room rose round rule run sacrifice saddle safe sample save say
scale scapula scene school screen sea search seat second secret section self sell sensation sense sent sentence
sequence series servant service set setting shadow shape share shoe shook shore shot shoulder show side sigh sight
silence silk silly simple singing singular sir sister site sitting situation size skill skin slave sleep sleeping
slip small smile smoke society soldier solid somewhere sorrow soul sound south space speech spirit spot spread spring
spy square stable stand standing star start state station stay steam steamer steep stem step stick stock stone stop
story straight street strike string struggle student study style subject success suit sum summer sun sunset superior
supper supply support surface surprise sweet system table tail take talk taste tea temper tender term territory
terror test thanks theory therapy there thing things think third thousand three threshold throat throne throw tide
till time toilet tomorrow tone tongue toothpick top touch town tracing track train training transfer trap travel
treat treatment tribe trip trouble trunk trust truth turn turning type universe use value values variety victim view
village violence visit voice volume vote voyage wage waist walk wall war warning warrant watch way wealth wear
wedding week well west while whisper whistle why wife wig wind window wine wings wire wise wish witness wonder wood
word works world worth worthy wound writing yard year yesterday yew young youth`
  .trim()
  .split(/\s+/);

export const VERBS: readonly string[] = `
accept admit advise agree air allow appear archive ask assume attend avoid bear beat become beg begin believe belong
blank bore bring build buy carry choose color come compare conduct confess consider continue cook cost create crow
decide deck deliver describe destroy determine develop die dig ditch dust earn eat enter equal establish examine
exist expect explain fail feel fetch fill find follow fool forearm forget give glance glimpse gravel grow happen harm
hat have hear hill humbug identify include increase interview introduce join judge laugh lay learn leave let lose lot
maintain make marry mirror miss occasion occur originate own pay piece power pray prevent protect provide pursue push
put queer raft raise receive recommend reflect refuse regulate remember remove research retire roar route rust savage
scent see serve settle ship shop sign sit slight spend stir straw stream sugar swear task tax tear tell thank tin
total trade try understand vary visa wait want warm water weather will work write`
  .trim()
  .split(/\s+/);

export const WORDS: readonly string[] = [...new Set([...ADJECTIVES, ...NOUNS, ...VERBS])].sort();
