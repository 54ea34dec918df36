import type { Draw } from '../draw.ts';
import { asks, asksAll, conversations } from './conversation.ts';
import { fitting, inHaystack } from './fill.ts';
import type { Instance, Question, Task, Tools } from './types.ts';
import { pair, type ValueKind, value } from './values.ts';

const HEAD = (kind: ValueKind) =>
  `Some special magic ${kind}s are hidden within the following text. Make sure to memorize them. I will quiz you about them afterwards.`;
const STATEMENT = (kind: ValueKind, key: string, held: string) => `The special magic ${kind} for ${key} is: ${held}.`;

/** Needles in a haystack (RULER, arXiv:2404.06654, section 3): statements of the form "the special magic number for K is: V". */
export const NIAH: readonly Task[] = [
  {
    name: 'niah-number',
    title: 'needle, 4-7 digit number',
    generate: (draw, length, tools) => single(draw, length, tools, 'number', false),
  },
  {
    name: 'niah-sentence',
    title: 'needle, answer as a sentence',
    generate: (draw, length, tools) => single(draw, length, tools, 'number', true),
  },
  {
    name: 'niah-word',
    title: 'needle, word or word pair',
    generate: (draw, length, tools) => single(draw, length, tools, 'word', false),
  },
  {
    name: 'niah-hex',
    title: 'needle, hex string or UUID',
    generate: (draw, length, tools) => single(draw, length, tools, 'code', false),
  },
  { name: 'niah-multikey', title: 'needle among 4 keys', generate: multikey },
  { name: 'niah-multivalue', title: 'all values of a key', generate: multivalue },
  { name: 'niah-multiquery', title: '2-4 keys in one question', generate: multiquery },
  { name: 'niah-dense', title: 'haystack of needles', generate: dense },
];

function ask(kind: ValueKind, key: string, held: string, sentence = false): Question {
  const question = `What is the special magic ${kind} for ${key}?`;
  const whole = `The special magic ${kind} for ${key} is ${held}.`;
  if (sentence) return asks(question, whole, held);
  return asks(`${question} Answer with the ${kind} only.`, held, held, `The special magic ${kind} for ${key} is`);
}

const unit = (kind: ValueKind, key: string, held: string) => ` ${STATEMENT(kind, key, held)}`;

function single(draw: Draw, length: number, tools: Tools, kind: ValueKind, sentence: boolean): Instance | null {
  const depth = draw.next();
  const [key, held] = [pair(draw), value(draw, kind)];
  const [units, questions] = [[unit(kind, key, held)], [ask(kind, key, held, sentence)]];
  return inHaystack(draw, tools, length, { head: HEAD(kind), filler: 'text', units, questions, about: [0], depth });
}

/** As many of `wanted` keys as fit half of the length. */
function keys(draw: Draw, tools: Tools, length: number, wanted: number): string[] {
  const cost = tools.count(unit('number', 'beautiful-mountain', '1234567')) + 3;
  const fit = Math.floor(((length - 200) * 0.5) / cost);
  return draw.distinct(Math.max(1, Math.min(wanted, fit)), () => pair(draw));
}

function multikey(draw: Draw, length: number, tools: Tools): Instance | null {
  const needles = keys(draw, tools, length, 4).map(key => ({ key, held: value(draw, 'number') }));
  const asked = draw.between(0, needles.length - 1);
  const { key, held } = needles[asked]!;
  return inHaystack(draw, tools, length, {
    head: HEAD('number'),
    filler: 'text',
    units: needles.map(needle => unit('number', needle.key, needle.held)),
    questions: [ask('number', key, held)],
    about: needles.map((_, i) => (i === asked ? 0 : -1)),
  });
}

function multivalue(draw: Draw, length: number, tools: Tools): Instance | null {
  const chosen = keys(draw, tools, length, draw.choice([1, 2, 3]));
  const most = Math.floor(((length - 150) * 0.6) / (25 * chosen.length));
  const needles = draw.shuffled(
    chosen.flatMap(key => {
      const count = Math.max(1, Math.min(draw.choice([2, 3, 4]), most));
      return draw.distinct(count, () => value(draw, 'number')).map(held => ({ key, held }));
    }),
  );
  const key = draw.choice(chosen);
  // In the order of the text.
  const held = needles.filter(needle => needle.key === key).map(needle => needle.held);
  const question = `What are all the special magic numbers for ${key} mentioned in the text?`;
  return inHaystack(draw, tools, length, {
    head: HEAD('number'),
    filler: 'text',
    units: needles.map(needle => unit('number', needle.key, needle.held)),
    questions: [asksAll(question, held.join(', '), held, `The special magic numbers for ${key} are`)],
    about: needles.map(needle => (needle.key === key ? 0 : -1)),
  });
}

function multiquery(draw: Draw, length: number, tools: Tools): Instance | null {
  const needles = keys(draw, tools, length, draw.choice([4, 5, 6, 8])).map(key => ({
    key,
    held: value(draw, 'number'),
  }));
  const count = Math.min(needles.length, draw.choice([2, 3, 4]));
  const [asked, rest] = [draw.shuffled(needles), [] as typeof needles];
  rest.push(...asked.splice(count));
  const names = asked.map(needle => needle.key);
  const named = names.length > 1 ? `${names.slice(0, -1).join(', ')} and ${names.at(-1)}` : names[0]!;
  const lines = asked.map(needle => `${needle.key}: ${needle.held}`).join('\n');
  const all = asksAll(
    `What are the special magic numbers for ${named}?`,
    lines,
    asked.map(needle => needle.held),
    `The special magic numbers for ${named} are`,
  );
  const later = draw.chance(0.5) ? rest.slice(0, 3) : [];
  const about = needles.map(needle =>
    asked.includes(needle) ? 0 : later.indexOf(needle) < 0 ? -1 : later.indexOf(needle) + 1,
  );
  return inHaystack(draw, tools, length, {
    head: HEAD('number'),
    filler: 'text',
    units: needles.map(needle => unit('number', needle.key, needle.held)),
    questions: [all, ...later.map(needle => ask('number', needle.key, needle.held))],
    about,
  });
}

/** Nothing but needles, one a line. */
function dense(draw: Draw, length: number, tools: Tools): Instance | null {
  const converse = conversations(draw, tools);
  const head = HEAD('number');
  let room =
    length - tools.size(converse({ head, context: '', questions: [ask('number', 'beautiful-mountain', '1234567')] }));
  const needles = new Map<string, string>();
  for (;;) {
    const [key, held] = [pair(draw), value(draw, 'number')];
    if (needles.has(key)) continue;
    room -= tools.count(`\n${STATEMENT('number', key, held)}`);
    if (room < 0) break;
    needles.set(key, held);
  }
  if (needles.size === 0) return null;
  const key = draw.choice([...needles.keys()]);
  const lines = [...needles].map(([name, held]) => STATEMENT('number', name, held));
  const text = STATEMENT('number', key, needles.get(key)!);
  const context = lines.join('\n');
  const questions = [ask('number', key, needles.get(key)!)];
  const hidden = [{ text, at: context.indexOf(text), question: 0 }];
  return fitting(tools, length, converse({ head, context, questions, needles: hidden }));
}
