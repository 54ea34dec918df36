/**
 * npm run bench:scbench -- [--lengths 512,1024,2048] [--length 1024] [--n 4] [--tasks a,b] [--kv a --kv b] [--own-answers] [--smollm2] [--fresh] [--markdown] [--docs]
 *
 * SCBench (arXiv 2412.10319) with generated contexts: the full cache at several lengths, and recipes at one, in both
 * shared-context modes. Of the bundled model's full cache all answers are written and scored, which shows what tasks it can do; with
 * recipes those of these tasks are, the other tasks are compared by forced tokens. SmolLM2 is compared so on all.
 *
 * Written after each cell; a cell that is there is not run again, whatever commit it is of (each says which). `--fresh` runs
 * all anew; `--markdown` runs nothing and prints what is there; `--docs` puts that into docs/scbench.md.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cacheSetting } from '../src/eval/cache-setting.ts';
import { openModelForEval } from '../src/eval/open.node.ts';
import { MODES } from '../src/eval/scbench/play.ts';
import { type CaptionedTable, scbenchTables, scoreMatrix } from '../src/eval/scbench/report.ts';
import { runScbench, type ScbenchCell, type ScbenchPlan } from '../src/eval/scbench/run.ts';
import { findScbenchTask, SCBENCH_TASKS } from '../src/eval/scbench/tasks/index.ts';
import { intoDocs } from './lib/docs.ts';
import { positive, positives } from './lib/flags.ts';
import { metadata } from './lib/metadata.ts';
import { MINI, smolLm2 } from './lib/models.ts';
import { writeResult } from './lib/result.ts';
import { cellKey, rounded, type StoredCells } from './lib/scbench-cells.ts';
import { blocks } from './lib/table.ts';

/** Formats at 2 and 4 bits and with a correction, a quarter of the entries, a share of them a step. */
const RECIPES = [
  'streaming-llm(keep=0.25)',
  'h2o(keep=0.25)',
  'snapkv(keep=0.25, width=15)',
  'kivi(bits=2)',
  'kivi(bits=4)',
  'gear',
  'louiskv(budget=192)',
];

const { values: flags } = parseArgs({
  options: {
    lengths: { type: 'string', default: '512,1024,2048' },
    length: { type: 'string', default: '1024' },
    n: { type: 'string', default: '4' },
    tasks: { type: 'string', default: 'all' },
    kv: { type: 'string', multiple: true, default: RECIPES },
    threads: { type: 'string', default: '1' },
    'own-answers': { type: 'boolean', default: false },
    smollm2: { type: 'boolean', default: false },
    fresh: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    docs: { type: 'boolean', default: false },
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
  write: flags['own-answers'] ? 'all' : smol ? 'none' : 'able',
  ownAnswers: flags['own-answers'],
};
const settings = flags.kv.map(text => cacheSetting(text));
const full = cacheSetting('f32');
const parts = [
  { ...base, write: smol ? base.write : 'all', lengths: positives('lengths', flags.lengths), caches: [full] },
  { ...base, lengths: [positive('length', flags.length)], caches: [full, ...settings] },
] satisfies ScbenchPlan[];

const stored = fileURLToPath(new URL('results/scbench.json', import.meta.url));
const cells: StoredCells =
  existsSync(stored) && !flags.fresh
    ? (JSON.parse(readFileSync(stored, 'utf8')) as { results: { cells: StoredCells } }).results.cells
    : {};

const name = smol ? 'smollm2-135m' : 'kvasir-mini';
const run = metadata();
const shown: ScbenchCell[][] = [];
const idle = flags.markdown || flags.docs;
if (idle) {
  for (const plan of parts)
    shown.push(
      Object.entries(cells)
        .filter(([key, cell]) => key === cellKey(name, plan, cell))
        .map(([, cell]) => cell)
        .filter(cell => plan.lengths.includes(cell.length) && plan.caches.some(({ name }) => name === cell.cache)),
    );
} else {
  await using opened = await openModelForEval(
    { name, path: smol ?? MINI },
    { threads: positive('threads', flags.threads) },
  );
  for (const plan of parts)
    shown.push(
      await runScbench(opened.model, plan, {
        known: key => cells[cellKey(name, plan, key)],
        onCell(cell) {
          const key = cellKey(name, plan, cell);
          cells[key] = rounded({ ...cell, commit: run.commit, dirty: run.dirty });
          writeResult('scbench', run, { cells });
          process.stderr.write(`${key}: ${'refused' in cell ? 'refused' : `${cell.seconds.toFixed(1)} s`}\n`);
        },
      }),
    );
}

const [ofFull = [], ofRecipes = []] = shown;
const written = base.write !== 'none';
const tables: CaptionedTable[] = [
  ...(written ? [scoreMatrix(ofFull), scoreMatrix(ofRecipes.filter(cell => 'scores' in cell && cell.scores))] : []),
  ...scbenchTables(ofRecipes).filter(({ caption }) => !caption.startsWith('Scores')),
];
const text = blocks(tables, idle ? 'markdown' : 'text');
const part = ['scbench', ...(smol ? ['--smollm2'] : []), ...(base.ownAnswers ? ['--own-answers'] : [])].join(' ');
if (flags.docs) intoDocs('scbench.md', part, text);
else console.log(text);
