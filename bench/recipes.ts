/**
 * npm run bench:recipes -- [--length 2048] [--n 8] [--windows 4] [--tasks a,b] [--methods a,b] [--pages f16] [--fresh] [--markdown] [--docs]
 *
 * Every registered method on the bundled model, at its paper's setting and at three budgets: what is kept and held, task
 * scores, and how far predictions on held-out text move from those of the full f32 cache.
 *
 * Written after each cell; a cell that is there is not run again, whatever commit it is of (each says which). `--fresh` runs
 * all anew; `--markdown` runs nothing and prints what is there; `--docs` puts that into docs/eval.md. `node scripts/recipe-docs.ts`
 * then puts the rows of each method into docs/methods.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { calibrate } from '../src/engine/calibrate/index.ts';
import { cacheSetting } from '../src/eval/cache-setting.ts';
import { bundledCorpus } from '../src/eval/corpus.node.ts';
import { openModelForEval } from '../src/eval/open.node.ts';
import { findTask } from '../src/eval/tasks/index.ts';
import { METHODS } from '../src/methods/index.ts';
import { parseRazorProfile } from '../src/methods/profiles.ts';
import type { Method } from '../src/methods/types.ts';
import { intoDocs } from './lib/docs.ts';
import { metadata } from './lib/metadata.ts';
import { type Cells, RecipeCells } from './lib/recipe-cells.ts';
import { recipeSettings, type Setting } from './lib/recipe-settings.ts';
import { recipeTable } from './lib/recipe-table.ts';
import { writeResult } from './lib/result.ts';

const { values: flags } = parseArgs({
  options: {
    length: { type: 'string', default: '2048' },
    n: { type: 'string', default: '8' },
    windows: { type: 'string', default: '4' },
    tasks: { type: 'string', default: 'niah-number,niah-multikey,vt-1x4,copy' },
    methods: { type: 'string' },
    pages: { type: 'string', default: 'f16' },
    seed: { type: 'string', default: '0' },
    threads: { type: 'string', default: '2' },
    fresh: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    docs: { type: 'boolean', default: false },
  },
});
const whole = (flag: 'length' | 'n' | 'windows' | 'seed' | 'threads', least: number): number => {
  const value = Number(flags[flag]);
  if (!Number.isSafeInteger(value) || value < least)
    throw new Error(`--${flag} is "${flags[flag]}"; allowed: a whole number from ${least}`);
  return value;
};
const size = { length: whole('length', 512), n: whole('n', 1), windows: whole('windows', 1), seed: whole('seed', 0) };
const tasks = flags.tasks.split(',').map(findTask);
const chosen = flags.methods?.split(',');
for (const name of chosen ?? [])
  if (!METHODS.some(method => method.name === name))
    throw new Error(`--methods names ${name}, which is not registered`);
const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const stored = here('results/recipes.json');
const cells: Cells =
  existsSync(stored) && !flags.fresh
    ? (JSON.parse(readFileSync(stored, 'utf8')) as { results: { cells: Cells } }).results.cells
    : {};

await using opened = await openModelForEval(
  { name: 'kvasir-mini', path: here('../models/kvasir-mini.gguf') },
  { threads: whole('threads', 1) },
);
const { model } = opened;
const books = await bundledCorpus();

const full: Setting[] = [
  { method: 'full', at: 'paper', recipe: 'full' },
  ...(flags.pages === 'f32' ? [] : [{ method: 'full', at: 'paper', recipe: `full @ ${flags.pages}` } as const]),
];
const retrieving = await retrievingShare();
const settings = [
  ...full,
  ...recipeSettings({ length: size.length, retrieving })
    .filter(({ method }) => !chosen || chosen.includes(method))
    .map(setting => ({ ...setting, recipe: `${setting.recipe} @ ${flags.pages}` })),
];

const run = metadata();
const runner = new RecipeCells(model, books, size);
let failed = false;
const idle = flags.markdown || flags.docs;
if (!idle)
  for (const [i, { recipe }] of settings.entries())
    for (const what of [...tasks, 'text' as const]) {
      const key = runner.key(what, recipe);
      if (cells[key]) continue;
      const begin = performance.now();
      try {
        const cell = await runner.measure(what, cacheSetting(recipe));
        cells[key] = { ...cell, seconds: (performance.now() - begin) / 1000, commit: run.commit, dirty: run.dirty };
      } catch (error) {
        failed = true;
        process.stderr.write(`${key}: ${(error as Error).message}\n`);
        continue;
      }
      writeResult('recipes', run, { cells, retrieving });
      process.stderr.write(
        `${i + 1}/${settings.length} ${key}: ${((performance.now() - begin) / 1000).toFixed(1)} s\n`,
      );
    }
const text = recipeTable({
  settings,
  tasks,
  cells,
  size,
  pages: flags.pages,
  key: (what, recipe) => runner.key(what, recipe),
  markdown: idle,
});
if (flags.docs) intoDocs('eval.md', 'recipes', text);
else console.log(text);
if (failed) process.exitCode = 1;

/** Profiles beside the model are used; those that are missing are made, from a text that no window reads. */
async function retrievingShare(): Promise<number> {
  const unread = books.at(-1)!.slice(-40_000);
  const kinds = new Set(METHODS.flatMap((method: Method) => method.profile ?? []));
  let share = 1;
  for (const kind of kinds) {
    const path = here(`../models/kvasir-mini.${kind}.json`);
    const profile = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : await calibrate(model, kind, unread);
    if (kind !== 'razor-attention') continue;
    const { retrieval } = parseRazorProfile(profile, model.shape);
    share = retrieval.flat().length / (model.shape.layers * model.shape.kvHeads);
  }
  return share;
}
