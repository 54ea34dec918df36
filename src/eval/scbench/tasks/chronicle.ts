import type { Draw } from '../../draw.ts';
import { asks } from '../../tasks/conversation.ts';
import type { Question } from '../../tasks/types.ts';
import { person } from '../../tasks/values.ts';
import { CITIES, COLORS, FOODS, HOBBIES, JOBS, MONTHS, PETS } from '../../tasks/words.ts';

interface Attribute {
  readonly values: readonly string[];
  say(who: Who, value: string): readonly string[];
  ask(name: string, value: string): Question;
}

interface Who {
  readonly first: string;
  readonly he: string;
  readonly his: string;
  readonly cap: { readonly he: string; readonly his: string };
}

const article = (word: string): string => `${/^[aeiou]/.test(word) ? 'an' : 'a'} ${word}`;

/** Facts and questions in the words that the bundled model was trained on. */
const ATTRIBUTES = {
  home: {
    values: CITIES,
    say: ({ first, cap }, v) => [`${cap.he} lives in ${v}.`, `Today ${first} lives in ${v}.`],
    ask: (n, v) => asks(`Where does ${n} live?`, `${n} lives in ${v}.`, v),
  },
  job: {
    values: JOBS.map(article),
    say: ({ first, cap }, v) => [`${cap.he} works as ${v}.`, `${first} is ${v}.`],
    ask: (n, v) => asks(`What is the job of ${n}?`, `${n} is ${v}.`, v),
  },
  hobby: {
    values: HOBBIES,
    say: ({ cap, his, first }, v) => [`${cap.he} likes ${v}.`, `In ${his} free time, ${first} enjoys ${v}.`],
    ask: (n, v) => asks(`What is the hobby of ${n}?`, `The hobby of ${n} is ${v}.`, v),
  },
  food: {
    values: FOODS,
    say: ({ first, cap }, v) => [`${cap.his} favorite food is ${v}.`, `Most of all, ${first} likes to eat ${v}.`],
    ask: (n, v) => asks(`What is the favorite food of ${n}?`, `The favorite food of ${n} is ${v}.`, v),
  },
  color: {
    values: COLORS,
    say: ({ first, cap }, v) => [`${cap.his} favorite color is ${v}.`, `${first} likes the color ${v} best.`],
    ask: (n, v) => asks(`What is the favorite color of ${n}?`, `The favorite color of ${n} is ${v}.`, v),
  },
  pet: {
    values: PETS,
    say: ({ first, cap }, v) => [`${cap.he} has ${v}.`, `At home, ${first} keeps ${v}.`],
    ask: (n, v) => asks(`Which pet does ${n} have?`, `${n} has ${v}.`, v),
  },
  birthday: {
    values: MONTHS,
    say: ({ cap }, v) => [`${cap.his} birthday is in ${v}.`],
    ask: (n, v) => asks(`In which month is the birthday of ${n}?`, `The birthday of ${n} is in ${v}.`, v),
  },
} as const satisfies Record<string, Attribute>;

type AttributeName = keyof typeof ATTRIBUTES;
const OPTIONAL = Object.keys(ATTRIBUTES).filter(name => name !== 'home') as AttributeName[];

export interface Fact {
  readonly value: string;
  readonly question: Question;
  /** Values of the same kind. */
  readonly others: readonly string[];
}

export interface Entry {
  readonly name: string;
  readonly text: string;
  readonly facts: readonly Fact[];
  readonly home: string;
  readonly friend: Entry | null;
}

export const CHRONICLE_FRAME = { open: 'Read the text and answer my questions.\n\n', separator: '\n\n' };

/** Makes people one after the other, each fact in one sentence; all but the first have a friend among those before. */
export function chronicle(draw: Draw): (before: readonly Entry[]) => Entry {
  const names = new Set<string>();
  return before => {
    let name = person(draw);
    while (names.has(name)) name = person(draw);
    names.add(name);
    const male = draw.chance(0.5);
    const [he, his] = male ? ['he', 'his'] : ['she', 'her'];
    const who = { first: name.split(' ')[0]!, he, his, cap: male ? HE : SHE };
    const chosen = new Map<AttributeName, string>();
    for (const each of ['home' as const, ...draw.sample(OPTIONAL, draw.between(2, 3))])
      chosen.set(each, draw.choice(ATTRIBUTES[each].values));
    const sentences = [...chosen].map(([each, value]) => draw.choice((ATTRIBUTES[each] as Attribute).say(who, value)));
    const year = draw.between(1935, 2005);
    const [friend] = draw.sample(before, 1);
    const text = [
      `${name} was born in ${draw.choice(CITIES)} in ${year}.`,
      ...sentences,
      ...(friend ? [`${who.cap.his} best friend is ${friend.name}.`] : []),
    ].join(' ');
    const facts = [...chosen].map(([each, value]) => ({
      value,
      question: ATTRIBUTES[each].ask(name, value),
      others: (ATTRIBUTES[each].values as readonly string[]).filter(other => other !== value),
    }));
    return { name, text, facts, home: chosen.get('home')!, friend: friend ?? null };
  };
}

const HE = { he: 'He', his: 'His' };
const SHE = { he: 'She', his: 'Her' };

/** A question that takes two entries to answer. */
export function friendsHome({ name, friend }: Entry): Question | null {
  return (
    friend &&
    asks(
      `Where does the best friend of ${name} live?`,
      `The best friend of ${name} lives in ${friend.home}.`,
      friend.home,
    )
  );
}
