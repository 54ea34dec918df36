/**
 * npm run bench:scbench -- [--lengths 512,1024,2048] [--length 1024] [--n 4] [--tasks a,b] [--kv a --kv b] [--own-answers] [--smollm2] [--fresh] [--markdown]
 *
 * SCBench (arXiv 2412.10319) with generated contexts: the full cache at several lengths, and recipes at one, in both
 * shared-context modes. Of the bundled model all answers are written and scored; SmolLM2 is compared with its own full cache
 * by forced tokens.
 *
 * Written after each cell; a cell that is there is not run again, whatever commit it is of (each says which). `--fresh` runs
 * all anew; `--markdown` runs nothing and prints what is there.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cacheSetting } from '../src/eval/cache-setting.ts';
import { openModelForEval } from '../src/eval/open.node.ts';
import { MODES } from '../src/eval/scbench/play.ts';
import { type CaptionedTable, scbenchTables, scoreMatrix } from '../src/eval/scbench/report.ts';
import { type CellKey, runScbench, type ScbenchCell, type ScbenchPlan } from '../src/eval/scbench/run.ts';
import { findScbenchTask, SCBENCH_TASKS } from '../src/eval/scbench/tasks/index.ts';
import { positive, positives } from './lib/flags.ts';
import { metadata } from './lib/metadata.ts';
import { MINI, smolLm2 } from './lib/models.ts';
import { writeResult } from './lib/result.ts';
import { blocks } from './lib/table.ts';

/** About a quarter of the full cache each, but for the formats: 2 and 4 bits. */
const RECIPES = [
  'random(keep=0.25)',
  'streaming-llm(keep=0.25)',
  'h2o(keep=0.25)',
  'snapkv(keep=0.25, width=15)',
  'cake(keep=0.25)',
  'razor-attention(minimum=16, divisor=8)',
  'kivi(bits=2)',
  'kivi(bits=4)',
  'snapkv(keep=0.5, width=15) + kivi(bits=4)',
  'louiskv(budget=192)',
];

const { values: flags } = parseArgs({
  options: {
    lengths: { type: 'string', default: '512,1024,2048' },
    length: { type: 'string', default: '1024' },
    n: { type: 'string', default: '4' },
    tasks: { type: 'string', default: 'all' },
    kv: { type: 'string', multiple: true, default: RECIPES },
    threads: { type: 'string', default: '2' },
    'own-answers': { type: 'boolean', default: false },
    smollm2: { type: 'boolean', default: false },
    fresh: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
  },
});
const smol = flags.smollm2 ? await smolLm2() : undefined;
if (flags.smollm2 && !smol)
  throw new Error('--smollm2: pull it (kvasir pull smollm2-135m), or name its file in KVASIR_SMOLLM2');
const base: Omit<ScbenchPlan, 'caches' | 'lengths'> = {
  tasks: flags.tasks === 'all' ? SCBENCH_TASKS : flags.tasks.split(',').map(findScbenchTask),
  modes: flags['own-answers'] ? ['multi-turn'] : MODES,
  n: positive('n', flags.n),
  seed: 0,
  split: 'test',
  phrasing: smol ? 'natural' : 'training',
  write: smol && !flags['own-answers'] ? 'none' : 'all',
  ownAnswers: flags['own-answers'],
};
const settings = flags.kv.map(text => cacheSetting(text));
const full = cacheSetting('f32');
const parts = [
  { ...base, lengths: positives('lengths', flags.lengths), caches: [full] },
  { ...base, lengths: [positive('length', flags.length)], caches: [full, ...settings] },
] satisfies ScbenchPlan[];

type Stored = ScbenchCell & { readonly commit: string; readonly dirty: boolean };
const stored = fileURLToPath(new URL('results/scbench.json', import.meta.url));
const cells: Record<string, Stored> =
  existsSync(stored) && !flags.fresh
    ? (JSON.parse(readFileSync(stored, 'utf8')) as { results: { cells: Record<string, Stored> } }).results.cells
    : {};

const name = smol ? 'smollm2-135m' : 'kvasir-mini';
/** All that a cell depends on but the code. */
const keyOf = ({ task, generator, mode, length, cache }: CellKey): string =>
  `${name} ${task}@${generator} ${mode}${base.ownAnswers ? ', own answers' : ''} ${length} n=${base.n} ${base.phrasing} ${base.write} ${cache}`;

const run = metadata();
const shown: ScbenchCell[][] = [];
if (flags.markdown) {
  for (const { lengths, caches } of parts)
    shown.push(
      Object.entries(cells)
        .filter(([key, cell]) => key === keyOf(cell))
        .map(([, cell]) => cell)
        .filter(cell => lengths.includes(cell.length) && caches.some(cache => cache.name === cell.cache)),
    );
} else {
  await using opened = await openModelForEval(
    { name, path: smol ?? MINI },
    { threads: positive('threads', flags.threads) },
  );
  for (const plan of parts)
    shown.push(
      await runScbench(opened.model, plan, {
        known: key => cells[keyOf(key)],
        onCell(cell) {
          cells[keyOf(cell)] = { ...cell, commit: run.commit, dirty: run.dirty };
          writeResult('scbench', run, { cells });
          process.stderr.write(`${keyOf(cell)}: ${'refused' in cell ? 'refused' : `${cell.seconds.toFixed(1)} s`}\n`);
        },
      }),
    );
}

const [ofFull = [], ofRecipes = []] = shown;
const written = base.write !== 'none';
const tables: CaptionedTable[] = [
  ...(written ? [scoreMatrix(ofFull), scoreMatrix(ofRecipes)] : []),
  ...scbenchTables(ofRecipes).filter(({ caption }) => !caption.startsWith('Scores')),
];
console.log(blocks(tables, flags.markdown ? 'markdown' : 'text'));
