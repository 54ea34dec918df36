import type { Measured } from '../../src/eval/tune/evaluate.ts';
import type { Goal } from '../../src/eval/tune/goal.ts';
import type { Rival } from '../../src/eval/tune/verify.ts';
import { type Block, digits, mebibytes } from './table.ts';
import type { PairsPart, RandomPart, StabilityPart, TunedPart, TunePart } from './tune-parts.ts';

/** Parts as tables, each under what it says. */
export function tuneTables(parts: readonly TunePart[], code: (text: string) => string): Block[] {
  const tuned = parts.filter(part => part.kind === 'tuned');
  const others = parts.flatMap((part): Block[] => {
    if (part.kind === 'random') return [randomTable(part, code)];
    if (part.kind === 'pairs') return [pairsTable(part)];
    return part.kind === 'stability' ? [stabilityTable(part)] : [];
  });
  return [...(tuned.length > 0 ? [summary(tuned, code)] : []), ...tuned.map(part => oneGoal(part, code)), ...others];
}

const kl = (value: number): string => (value < 1e-9 ? '0' : value.toPrecision(2));
const right = (one: Rival): string => `${one.right}/${one.of}`;
const percent = (share: number): string => (share * 100).toFixed(1);

/** What beats the tuned recipe, or stands level with it. */
function ahead({ tuned, rivals }: TunedPart['verdict']): string[] {
  return rivals.flatMap(rival => [
    ...(rival.kl <= tuned.kl ? [`${rival.method} in KL`] : []),
    ...(rival.right > tuned.right ? [`${rival.method} in tasks`] : []),
  ]);
}

const goalText = (goal: Goal): string =>
  'memory' in goal ? `${mebibytes(goal.memory)} MiB` : `agreement ${percent(goal.agreement)} %`;

function summary(parts: readonly TunedPart[], code: (text: string) => string): Block {
  const won = parts.filter(({ verdict }) => verdict.beatsAll).length;
  const rows = parts.map(({ goal, full, recipe, verdict }) => {
    const [next] = verdict.rivals;
    return [
      goalText(goal),
      percent(verdict.tuned.held / full),
      code(recipe),
      kl(verdict.tuned.kl),
      verdict.tuned.of > 0 ? right(verdict.tuned) : '',
      next ? `${code(next.recipe)}, ${kl(next.kl)}` : 'none fits',
      verdict.beatsAll ? 'yes' : `no: ${ahead(verdict).join(', ')}`,
    ];
  });
  const caption = `Held-out text and tasks: the tuned recipe beats every method alone, at equal bytes, for ${won} of ${parts.length} goals.`;
  return {
    caption,
    head: ['goal', '% of full held', 'tuned', 'KL', 'tasks', 'best alone, KL', 'beats all'],
    rows,
  };
}

function oneGoal({ goal, full, verdict, searched }: TunedPart, code: (text: string) => string): Block {
  const { tuned, rivals, out } = verdict;
  const row = (one: Rival) => [
    one.method,
    code(one.recipe),
    mebibytes(one.held),
    percent(one.held / full),
    percent(one.agreement),
    kl(one.kl),
    right(one),
  ];
  const none = out.length > 0 ? ` No setting holds so little: ${out.join(', ')}.` : '';
  return {
    caption: `${goalText(goal)}, held out (KL ${kl(searched.kl)} on what was searched).${none}`,
    head: ['', 'recipe', 'held MiB', '% of full', 'top-1 %', 'KL', 'tasks'],
    rows: [tuned, ...rivals].map(row),
  };
}

function randomTable({ bits, searched, random }: RandomPart, code: (text: string) => string): Block {
  const sorted = [...random].sort((a, b) => a.kl - b.kl);
  const better = sorted.filter(one => one.kl < searched.kl).length;
  const row = (name: string, one: Measured) => [
    name,
    code(one.recipe),
    mebibytes(one.held),
    percent(one.agreement),
    kl(one.kl),
  ];
  return {
    caption: `The searched table of widths is number ${better + 1} of ${random.length + 1} beside random tables of just as many bits (${digits(bits)} an element, scales and offsets included), on held-out text.`,
    head: ['', 'recipe', 'held MiB', 'top-1 %', 'KL'],
    rows: [
      row('searched', searched),
      row('best random', sorted[0]!),
      row('median random', sorted[sorted.length >> 1]!),
      row('worst random', sorted.at(-1)!),
    ],
  };
}

function pairsTable({ rows, layers }: PairsPart): Block {
  return {
    caption: 'Keys first or values first, of the same bytes, on held-out text.',
    head: ['base', 'pairs', 'KL, keys first', 'KL, values first', 'layers in which keys first lose less'],
    rows: rows.map(({ base, bits: [more, fewer], keys, values, layersForKeys }) => [
      base,
      `K${more}V${fewer} and K${fewer}V${more}`,
      kl(keys.kl),
      kl(values.kl),
      `${layersForKeys} of ${layers}`,
    ]),
  };
}

function stabilityTable({ rows, together }: StabilityPart): Block {
  const bits = [...new Set(rows.map(row => row.bits))];
  const line = (plane: string) =>
    bits.map(width => rows.find(row => row.plane === plane && row.bits === width)!.spearman.toFixed(2));
  return {
    caption:
      "Rank correlation (Spearman) of the layers' sensitivities, from the searched texts and from the held-out one.",
    head: ['', ...bits.map(width => `${width} bits`)],
    rows: [
      ['keys', ...line('k')],
      ['values', ...line('v')],
      ['both in one ranking', ...together.map(each => each.spearman.toFixed(2))],
    ],
  };
}
