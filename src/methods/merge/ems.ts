import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { accumulation } from '../shared/accumulated.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { add, attention, column, constant, multiply } from '../shared/expressions.ts';
import { pooling, window, withBudget } from '../shared/options.ts';
import type { AttentionSignal, FilledLayer, Traits } from '../types.ts';
import { type Columns, columnsOf, PREFIX, shrink } from './shrink.ts';

const columnSums: AttentionSignal = { signal: 'attention', rows: 'all', reduce: 'sum', group: 'mean' };
const traits: Traits = {
  stage: 'merge',
  prefixStable: false,
  ragged: 'both',
  keysRotated: true,
  needsExact: true,
  needsPrompt: true,
};

/**
 * EMS (arXiv 2412.08521): entries score by what all queries and what the last ones gave to them, the first corrected for how
 * many saw them. In each head the best are centres and stay, the next `ratio` as many go into the centre whose key is most
 * alike, anywhere in the sequence, the others are dropped. What is like no centre (cosine below `theta`) goes into a class of
 * zeros: it is dropped too, so heads merge more or less as their keys are. A merged entry carries the scores of all its
 * members, and weighs by them when it is merged again.
 * While decoding, what a page takes beyond the budget is a buffer: when it is full, the same is done with running scores, local
 * ones fading over `window` steps.
 * The paper's constants are not public: theta, ratio and how scores are combined are this reading's own.
 */
export const ems = defineMethod({
  name: 'ems',
  title: 'EMS',
  family: 'merge',
  summary:
    'Keeps the most important tokens of each head and merges the next ones into those whose keys are alike, dropping the rest. Use it at tight budgets on text that repeats itself.',
  paper: {
    title:
      'EMS: Adaptive Evict-then-Merge Strategy for Head-wise KV Cache Compression Based on Global-Local Importance',
    date: '2024-12',
    arxiv: '2412.08521',
  },
  claim:
    'Over 1.28 points more on LongBench than other methods at a cache of 256, and 95 % of needles in under 2 % of it.',
  options: withBudget(
    { budget: 256 },
    {
      theta: z
        .number()
        .min(-1)
        .max(2)
        .default(0.6)
        .describe('Least cosine of keys at which entries are merged; above 1 none is, and all of them are dropped'),
      ratio: z.number().min(0).default(1).describe('Entries to be merged for each that stays'),
      combine: z.enum(['max', 'sum']).default('max').describe('How global and local scores become one'),
      mass: z.enum(['none', 'bias']).default('none').describe('bias: an entry of n gets ln n on its score'),
      decode: z
        .enum(['merge', 'grow'])
        .default('merge')
        .describe('merge: the budget holds while decoding, but for a page that fills; grow: nothing is done then'),
      window: window(32),
      ...pooling('max', 7),
    },
  ),
  traits: { ...traits, drops: 'single' },
  traitsOf: ({ decode }) => (decode === 'merge' ? { ...traits, drops: 'single' } : traits),
  create(options) {
    if (keepsAll(options)) return {};
    const { window, mass } = options;
    const recent: AttentionSignal = { ...columnSums, rows: window };
    const sums = accumulation(true, PREFIX);
    const fade = 1 - 1 / window;
    const local = `${PREFIX}local`;
    const fading = { name: local, value: add(multiply(column(local), constant(fade)), attention('mean')) };
    const shrinking = (at: FilledLayer, columns: Columns) =>
      shrink(at, columns, tokensKept(options, at, window), { ...options, mass: mass === 'bias' });
    return {
      pages: { columns: [...sums.pages.columns!, local, ...(mass === 'bias' ? ['bias'] : [])] },
      sense: () => [columnSums, recent],
      decide(at) {
        const [score, queries] = sums.add(at, at.signal(columnSums), at.rows).actions.map(({ values }) => values);
        const now = at.signal(recent);
        const faded = columnsOf(at).local.map((old, head) => old.map((x, i) => x * fade ** at.rows + now[head]![i]!));
        return shrinking(at, { score: score!, queries: queries!, local: faded });
      },
      ...(options.decode === 'merge' && {
        step: () => ({ columns: [...sums.step.columns, fading] }),
        filled: (at: FilledLayer) => shrinking(at, columnsOf(at)),
      }),
    };
  },
});
