/** The word lists that the bundled model saw in its tasks (training/words.py). */
export const FIRST_NAMES: readonly string[] = (
  'Anna Ben Clara David Ella Felix Grace Henry Iris Jack Kate Leo Maya Noah Olive Peter Quinn Rosa Sam ' +
  'Tara Uma Victor Wendy Xavier Yara Zoe Amir Bella Carlos Dina Emil Fatima George Hana Ivan Julia Kofi ' +
  'Lena Marco Nina Omar Paula Rafael Sofia Tom Ursula Vera Walter Yusuf Alice Bruno Chen Daisy Elias Fiona ' +
  'Gustav Helen Igor Joan Karim Laura Mateo Nora Oscar Petra Ravi Sara Theo Ulla Vikram Wanda Mila Hugo ' +
  'Eva Ali Lucy Max Ruth Ned Pia Roy Gina Finn Tess Dora Otto Lily Amy Jonas Ingrid Diego Priya Kenji ' +
  'Aisha Martin Nadia Simon Greta Pablo Yuki Leila Anton'
).split(' ');
export const LAST_NAMES: readonly string[] = (
  'Abbott Baker Castillo Dawson Eriksen Fischer Garcia Hughes Ivanov Jensen Khan Lopez Miller Novak Okafor ' +
  'Patel Quirk Rossi Schmidt Tanaka Ueda Vargas Walsh Young Zhang Almeida Brandt Cohen Dubois Evans ' +
  'Ferrari Gupta Hansen Ito Johnson Kowalski Larsen Moreau Nguyen Olsen Park Reyes Sato Thomas Usman Vogel ' +
  'Weber Ahmed Bauer Costa Diaz Engel Flores Green Hill Jung King Lang Meyer Nolan Ortiz Price Ramos Stone ' +
  'Turner Vance Wolf Archer Bishop Carter Doyle Foster Grant Hayes Keller Lambert Mason'
).split(' ');
export const CITIES: readonly string[] = (
  'Lisbon Oslo Cairo Lima Nairobi Kyoto Boston Dublin Madrid Vienna Prague Athens Berlin Toronto Sydney ' +
  'Mumbai Bogota Havana Denver Chicago Seattle Austin Geneva Milan Naples Porto Seville Warsaw Helsinki ' +
  'Bergen Tallinn Riga Istanbul Tunis Accra Lagos Dakar Quito Santiago Montreal Vancouver Calgary Auckland ' +
  'Perth Hanoi Manila Jakarta Seoul Osaka Delhi Lahore Tehran Baghdad Amman Beirut Doha Muscat Zurich ' +
  'Munich Hamburg Cologne Lyon Nice Bordeaux Bruges Ghent Antwerp Leeds York Bristol Cardiff Glasgow ' +
  'Belfast Cork Phoenix Dallas Houston Memphis Atlanta Miami Tampa Orlando Portland Oakland Fresno Reno ' +
  'Boise Omaha Tulsa'
).split(' ');
export const JOBS: readonly string[] = (
  'teacher doctor nurse farmer pilot baker carpenter painter singer writer lawyer plumber chef dentist ' +
  'engineer gardener librarian tailor photographer mechanic fisherman musician actor biologist architect ' +
  'postman firefighter electrician journalist clockmaker potter dancer translator accountant beekeeper ' +
  'sailor veterinarian astronomer judge barber'
).split(' ');
export const FOODS: readonly string[] = (
  'pizza|soup|rice|pancakes|apple pie|noodles|salad|cheese|bread|chocolate|grapes|mushrooms|dumplings|' +
  'tacos|curry|waffles|strawberries|potatoes|fish|pasta|lentils|ice cream|oranges|honey|cookies|sandwiches|' +
  'plums|peas|carrots|popcorn'
).split('|');
export const COLORS: readonly string[] = (
  'red blue green yellow purple orange pink brown black white gray silver gold violet crimson turquoise ' +
  'scarlet indigo'
).split(' ');
export const PETS: readonly string[] = (
  'a cat|a dog|a parrot|a rabbit|a goldfish|a hamster|a turtle|a pony|a canary|a lizard|two cats|a snake|' +
  'a goat|three hens|a duck|a ferret|a frog|a mouse|an old dog|a kitten'
).split('|');
export const HOBBIES: readonly string[] = (
  'playing chess|painting|swimming|reading novels|hiking|cooking|playing the piano|singing|knitting|' +
  'fishing|dancing|collecting stamps|riding a bicycle|gardening|playing football|taking photographs|' +
  'baking bread|climbing|skating|writing poems|watching birds|playing the violin|running|' +
  'building model ships|playing tennis'
).split('|');
export const MONTHS: readonly string[] =
  'January February March April May June July August September October November December'.split(' ');
export const SYLLABLES: readonly string[] = (
  'ba be bi bo bu da de di do du fa fe fi fo ga go gu ka ke ki ko la le li lo lu ma me mi mo mu na ne no ' +
  'nu pa pe po ra re ri ro ru sa se si so ta te ti to tu va ve vo wa wi za zo zu'
).split(' ');
/** Kinds of things, for tasks that label them. */
export const CATEGORIES: Readonly<Record<string, readonly string[]>> = {
  animal:
    'cat dog horse cow sheep goat pig lion tiger bear wolf fox rabbit mouse monkey elephant giraffe zebra camel deer duck goose hen eagle owl crow shark whale dolphin frog snake lizard turtle bee ant spider'.split(
      ' ',
    ),
  fruit:
    'apple banana orange grape lemon peach pear plum cherry mango melon apricot fig lime papaya kiwi coconut berry'.split(
      ' ',
    ),
  color:
    'red blue green yellow purple orange pink brown black white gray silver gold violet crimson turquoise scarlet indigo'.split(
      ' ',
    ),
  tool: 'hammer saw drill wrench shovel rake axe knife scissors pliers screwdriver ladder chisel brush needle spade'.split(
    ' ',
  ),
  vehicle: 'car bus train bicycle truck boat ship plane tram van taxi wagon canoe ferry helicopter motorcycle'.split(
    ' ',
  ),
  furniture: 'chair table bed sofa desk shelf lamp stool bench wardrobe cupboard drawer mirror carpet'.split(' '),
  weather: 'rain snow wind storm fog hail sunshine thunder lightning frost drizzle cloud'.split(' '),
  body: 'hand foot arm leg head eye ear nose mouth knee elbow finger shoulder back neck'.split(' '),
  clothes: 'shirt coat hat shoe sock glove scarf dress skirt jacket belt boot sweater trousers'.split(' '),
  music: 'piano violin guitar flute drum trumpet cello harp clarinet song melody concert'.split(' '),
  school: 'teacher pupil lesson exam book pencil homework classroom desk blackboard'.split(' '),
  sport: 'football tennis basketball hockey rugby cricket golf volleyball badminton baseball'.split(' '),
  family: 'mother father sister brother uncle aunt cousin grandmother grandfather son daughter nephew niece'.split(' '),
  building: 'house church castle tower school hospital hotel museum bridge barn factory library palace'.split(' '),
};
/** Sentences that mean nothing, repeated as a haystack. */
export const NOISE: readonly string[] = [
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.',
  'The wind is cold and the road is long. We walk on and on. The day is done.',
  'A cup of tea stands on the table. The clock ticks on the wall. Nobody is at home.',
  'One two three four five. Once I caught a fish alive. Then I let it go again.',
  'The river runs to the sea. The hills are old and quiet. Rain falls on the roof.',
];
