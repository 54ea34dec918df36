import type { Draw } from '../../draw.ts';
import { ADJECTIVES, NOUNS } from '../../tasks/common-words.ts';
import type { Question } from '../../tasks/types.ts';
import { person } from '../../tasks/values.ts';
import { CITIES, COLORS, MONTHS } from '../../tasks/words.ts';
import { spread, turnOf } from '../fill.ts';
import { type ScbenchTask, type ScbenchTools, TURNS } from '../types.ts';

export interface Article {
  readonly title: string;
  readonly points: readonly string[];
  /** Lines of the article, title first. */
  readonly lines: string[];
}

/** Key points: each one's numbers and names make it unlike those of other articles. */
const POINTS: readonly ((draw: Draw) => string)[] = [
  draw => `It was built in ${draw.between(1700, 1999)} by ${person(draw)}.`,
  draw => `It holds ${draw.between(100, 9999)} pieces from ${draw.choice(CITIES)}.`,
  draw => `Every ${draw.choice(MONTHS)} about ${draw.between(100, 9999)} people visit it.`,
  draw => `${person(draw)} sold it for ${draw.between(1000, 99999)} pounds.`,
  draw => `Its walls were painted ${draw.choice(COLORS)} in ${draw.between(1700, 1999)}.`,
  draw => `A letter to ${person(draw)} was found in it in ${draw.between(1700, 1999)}.`,
  draw => `${person(draw)} is its keeper since ${draw.between(1960, 1999)}.`,
];
const ASIDES: readonly string[] = [
  'Not much is known about the time before.',
  'Many stories are told about it.',
  'The weather there is mild for most of the year.',
  'The way to it is long but pleasant.',
  'People of the town are fond of it.',
  'It has often been drawn and described.',
  'Some of what is said about it may not be true.',
  'There is more to say, but not here.',
];

const OPEN = 'Here are some articles. Their key points begin with a dash.\n\n';

/** Articles that fill so many tokens; null where five do not fit. */
export function articles(draw: Draw, tokens: number, tools: ScbenchTools): Article[] | null {
  const count = Math.max(TURNS, Math.min(12, Math.floor(tokens / 150)));
  const points = tokens / count > 120 ? 5 : 3;
  const titles = draw.distinct(
    count,
    () => `The ${draw.choice(ADJECTIVES)} ${draw.choice(NOUNS)} of ${draw.choice(CITIES)}`,
  );
  const all = titles.map(title => {
    const own = draw.sample(POINTS, points).map(make => make(draw));
    return { title, points: own, lines: [`# ${title}`, ...own.map(point => `- ${point}`)] };
  });
  let room = tokens - tools.count(body(all));
  if (titles.length < TURNS || room < 0) return null;
  const costs = ASIDES.map(aside => tools.count(`\n${aside}`));
  for (;;) {
    const aside = draw.between(0, ASIDES.length - 1);
    if (room < costs[aside]!) break;
    room -= costs[aside]!;
    const { lines } = draw.choice(all);
    lines.splice(draw.between(1, lines.length), 0, ASIDES[aside]!);
  }
  return all;
}

export const body = (all: readonly Article[]): string => OPEN + all.map(({ lines }) => lines.join('\n')).join('\n\n');

export function summaryTurn(tools: ScbenchTools, context: string, { title, points, lines }: Article) {
  const text = points.join('\n');
  const question: Question = {
    text: `Write the key points of the article "${title}", one a line.`,
    answer: text,
    lead: '',
    value: text,
    parts: [text],
  };
  return turnOf(tools, context, question, { scorer: 'rouge', evidence: [lines[0]!], kind: 'summary' });
}

/** The key points of one of several articles. */
export const SUMMARY: ScbenchTask = {
  name: 'summary',
  title: 'key points of articles',
  category: 'global',
  newTokens: 200,
  able: false,
  generate(draw, tokens, tools) {
    const all = articles(draw, tokens, tools);
    const asked = all && spread(draw, all.length);
    if (!asked) return null;
    const context = body(all);
    return { context, turns: asked.map(index => summaryTurn(tools, context, all[index]!)) };
  },
};
