import type { Draw } from '../../draw.ts';
import type { Question } from '../../tasks/types.ts';
import { made } from '../../tasks/values.ts';
import { pack, spread, turnOf } from '../fill.ts';
import type { ScbenchTask, ScbenchTools } from '../types.ts';

/** A step of a function: its lines, and what it does in words. */
interface Step {
  readonly lines: readonly string[];
  readonly says: string;
}

export interface CodeFunction {
  readonly text: string;
  /** Words for all its steps, unlike those of any other function of the session. */
  readonly says: string;
}

const drop = (test: string, what: string): Step => ({
  lines: [`        if ${test}:`, '            continue'],
  says: `drops ${what}`,
});
const change = (code: string, says: string): Step => ({ lines: [`        ${code}`], says });

const STEPS: readonly ((k: number) => Step)[] = [
  k => drop(`item % ${k} == 0`, `multiples of ${k}`),
  k => drop(`item > ${k}`, `items greater than ${k}`),
  k => drop(`item < ${k}`, `items less than ${k}`),
  k => drop(`item == ${k}`, `items equal to ${k}`),
  k => change(`item = item + ${k}`, `adds ${k} to each item`),
  k => change(`item = item - ${k}`, `takes ${k} from each item`),
  k => change(`item = item * ${k}`, `multiplies each item by ${k}`),
  k => change(`item = item // ${k}`, `divides each item by ${k}`),
];
const SUMS: readonly { readonly start: number; readonly line: string; readonly says: string }[] = [
  { start: 0, line: 'total = total + item', says: 'the sum' },
  { start: 1, line: 'total = total * item', says: 'the product' },
  { start: 0, line: 'total = total + 1', says: 'the count' },
  { start: 0, line: 'total = max(total, item)', says: 'the largest' },
];
const ENDS: readonly ((k: number) => readonly [code: string, says: string])[] = [
  k => [`total * ${k}`, `times ${k}`],
  k => [`total + ${k}`, `plus ${k}`],
  k => [`total - ${k}`, `minus ${k}`],
  k => [`total % ${k}`, `modulo ${k}`],
];

/** A function of five to about twenty lines, with names and constants of its own. */
export function functions(draw: Draw, most: number): () => CodeFunction {
  const names = new Set<string>();
  const seen = new Set<string>();
  const constant = () => draw.between(3, 997);
  return () => {
    for (;;) {
      const name = `${made(draw)}_${made(draw)}`;
      const steps = Array.from({ length: draw.between(1, most) }, () => draw.choice(STEPS)(constant()));
      const sum = draw.choice(SUMS);
      const [code, end] = draw.choice(ENDS)(constant());
      const says = `takes a list, ${steps.map(step => step.says).join(', ')}, returns ${sum.says} ${end}`;
      if (names.has(name) || seen.has(says)) continue;
      names.add(name);
      seen.add(says);
      const lines = [
        `def ${name}(items):`,
        `    total = ${sum.start}`,
        '    for item in items:',
        ...steps.flatMap(step => step.lines),
        `        ${sum.line}`,
        `    return ${code}`,
      ];
      return { text: lines.join('\n'), says };
    }
  };
}

export const CODE_FRAME = { open: 'Here is a file of Python functions.\n\n', separator: '\n\n' };

/** Steps of the longest function: short contexts have short functions, so that there are more than those asked for. */
export const stepsFor = (tokens: number): number => (tokens < 900 ? 1 : tokens < 2500 ? 3 : 6);

export function functionTurn(tools: ScbenchTools, context: string, { text, says }: CodeFunction) {
  const question: Question = {
    text: `Write out the function that does this: it ${says}.`,
    answer: `\`\`\`python\n${text}\n\`\`\``,
    lead: '```python\n',
    value: `${text}\n\`\`\``,
    parts: [text],
  };
  return turnOf(tools, context, question, { scorer: 'function', evidence: [text], kind: 'function' });
}

/** Functions found by what they do. */
export const REPOQA: ScbenchTask = {
  name: 'repoqa',
  title: 'functions by what they do',
  category: 'semantic',
  newTokens: 1024,
  able: false,
  generate(draw, tokens, tools) {
    const { context, records } = pack(tools, tokens, CODE_FRAME, functions(draw, stepsFor(tokens)));
    const asked = spread(draw, records.length)?.map(index => records[index]!);
    if (!asked) return null;
    return {
      context,
      candidates: asked.map(({ text }) => text),
      turns: asked.map(each => functionTurn(tools, context, each)),
    };
  },
};
