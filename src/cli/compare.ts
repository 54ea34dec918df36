import { basename, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Command } from 'commander';
import type { EngineOptions, LoadOptions } from '../engine/types.ts';
import { KvasirError } from '../errors.ts';
import { type ComparePlan, FIELD, LENGTH } from '../eval/compare/plan.ts';
import { compareTable, failures, taken, took } from '../eval/compare/table.ts';
import { findTasks, TASKS } from '../eval/tasks/index.ts';
import { formatRecipe, parseRecipe } from '../methods/recipe.ts';
import { recipeLines } from '../methods/recipe-lines.ts';
import { resolveModel } from '../model/hub/catalogue.node.ts';
import { BUNDLED } from './eval.ts';
import { table } from './format.ts';
import { type Context, printJson } from './io.ts';
import {
  addOptions,
  type CliOption,
  ENGINE_OPTIONS,
  JSON_OUTPUT,
  LOAD_OPTIONS,
  MODEL,
  nonEmpty,
  number,
  pick,
  recipe,
} from './options.ts';
import { Progress } from './progress.ts';
import { readText } from './read-text.ts';

const OWN: readonly CliOption[] = [
  {
    key: 'text',
    flags: '--text <path>',
    description: 'your own text; default: a bundled book',
    accepts: nonEmpty,
  },
  {
    key: 'question',
    flags: '--question <text>',
    description: 'what to ask at the end of the text; without it, the end of the text is predicted',
    accepts: { what: 'text that is not blank', parse: text => (text.trim() === '' ? undefined : text) },
  },
  {
    key: 'length',
    flags: '--length <tokens>',
    description: `tokens of the prompt, and of the tasks; default: with --text all that the context holds, else ${LENGTH}`,
    accepts: number({ min: 64, max: 1_000_000, integer: true }),
  },
  {
    key: 'steps',
    flags: '--steps <tokens>',
    description: 'tokens that are predicted after it, and of an answer',
    accepts: number({ min: 1, max: 512, integer: true }),
    default: 64,
  },
  {
    key: 'kv',
    flags: '--kv <recipe>',
    description: `a recipe beside the full cache; default: ${FIELD.length} that show the field`,
    accepts: recipe,
    list: true,
  },
  {
    key: 'recipes',
    flags: '--recipes <path>',
    description: 'a file of recipes, one a line; # begins a comment',
    accepts: nonEmpty,
  },
  {
    key: 'tasks',
    flags: '--tasks <names>',
    description: `tasks too, parted by commas: strong, all, none, ${TASKS.map(task => task.name).join(', ')}`,
    accepts: {
      what: 'names parted by commas',
      parse: text => (text.split(',').every(name => name !== '') ? text.split(',') : undefined),
    },
    default: ['none'],
  },
  {
    key: 'n',
    flags: '--n <count>',
    description: 'instances of each task',
    accepts: number({ min: 1, max: 1000, integer: true }),
    default: 4,
  },
  {
    key: 'rounds',
    flags: '--rounds <count>',
    description: 'rounds of the measure of speed; recipes take turns',
    accepts: number({ min: 1, max: 20, integer: true }),
    default: 2,
  },
  {
    key: 'seed',
    flags: '--seed <number>',
    description: 'other instances of the tasks',
    accepts: number({ min: 0, max: Number.MAX_SAFE_INTEGER, integer: true }),
    default: 0,
  },
  { key: 'html', flags: '--html <path>', description: 'write a report with plots, one file', accepts: nonEmpty },
  { key: 'out', flags: '--out <path>', description: 'write the results as JSON', accepts: nonEmpty },
  {
    key: 'state',
    flags: '--state <path>',
    description: 'where what is measured is kept, to go on after a stop; default: a file in the cache folder',
    accepts: nonEmpty,
  },
  { key: 'fresh', flags: '--fresh', description: 'measure anew what is there already' },
];
const LOAD = LOAD_OPTIONS.filter(option => option.key !== 'cache' && option.key !== 'kv');

/** `kvasir compare`: recipes side by side, on one text and on tasks. */
export function compareCommand(command: Command, context: Context): Command {
  addOptions(command.description('set recipes side by side on your own text'), [
    MODEL,
    ...OWN,
    ...LOAD,
    ...ENGINE_OPTIONS,
    JSON_OUTPUT,
  ]);
  return command.action((options: Record<string, unknown>) => compare(context, options));
}

async function compare(context: Context, options: Record<string, unknown>): Promise<void> {
  const { io } = context;
  const found = await resolveModel(context.catalogue, options.model as string);
  const load: LoadOptions = { ...found, ...pick(options, LOAD) };
  const begin = performance.now();
  const asked = await planOf(options, found.name === BUNDLED);
  const [{ openModelForEval }, { codeVersion, metadata }, { writeWhole }, { CompareState }, { cacheDir }] =
    await Promise.all([
      import('../eval/open.node.ts'),
      import('../eval/metadata.node.ts'),
      import('../eval/result.node.ts'),
      import('../eval/compare/state.node.ts'),
      import('../model/hub/cache-dir.node.ts'),
    ]);
  const { runCompare } = await import('../eval/compare/run.ts');
  const { wholeLength } = await import('../eval/compare/prompt.ts');
  const { compareResult } = await import('../eval/compare/result.ts');
  const { compareReport } = await import('../eval/compare/report/report.ts');

  const interrupt = new AbortController();
  const release = io.onInterrupt(() => interrupt.abort());
  const progress = new Progress(io, (done, total) => (total > 1 ? `${done}/${total}` : ''));
  try {
    const engine = pick(options, ENGINE_OPTIONS) as EngineOptions;
    await using opened = await openModelForEval(load, engine, at => progress.update(at.what, at.fraction, 1));
    progress.stop();
    const { model } = opened;
    const plan: ComparePlan = { ...asked, length: asked.length ?? wholeLength(model, asked) };
    const where = { folder: join(cacheDir(), 'compare'), fresh: options.fresh === true };
    const path = options.state as string | undefined;
    const { fingerprint, mode, provider, context: most } = model.info;
    const conditions = { ...pick(options, LOAD), ...engine, fingerprint, mode, provider, context: most };
    const state = await CompareState.open({ ...where, ...(path && { path }) }, plan, conditions, codeVersion());
    const run = metadata();
    const reused = Object.keys(state.cells).length;
    const what = await runCompare(model, plan, state.cells, {
      signal: interrupt.signal,
      yields: () => setImmediate(),
      onProgress: (doing, done, total) => progress.update(doing, done, total),
      onCell: (name, cell) => state.add(name, cell),
    });
    progress.stop();
    const seconds = (performance.now() - begin) / 1000;
    const result = compareResult(model, plan, what, state.cells, { ...run, seconds, reused });
    const whole = result.rows[0]!;
    if (options.out) await writeWhole(options.out as string, `${JSON.stringify(result, null, 1)}\n`);
    if (options.html) await writeWhole(options.html as string, compareReport(result));
    if (options.json && !whole.failed) printJson(io, result);
    if (!options.json) {
      const { head, rows } = compareTable(result);
      io.stdout.write(`${[table(head, rows), ...failures(result), taken(result), took(result)].join('\n')}\n`);
      if (options.html) io.stderr.write(`report written to ${options.html}\n`);
    }
    // Beside nothing there is no comparison.
    if (whole.failed) throw new KvasirError('backend_failed', `the full cache failed: ${whole.failed}`);
  } finally {
    progress.stop();
    release();
  }
}

/** What is asked for; without a length as long as it will be, which the model's tokenizer says. */
type Asked = Omit<ComparePlan, 'length'> & { readonly length: number | undefined };

async function planOf(options: Record<string, unknown>, bundled: boolean): Promise<Asked> {
  const { bundledCorpus } = await import('../eval/corpus.node.ts');
  const asked = (options.tasks as string[]).filter(name => name !== 'none');
  const tasks = findTasks(asked, ['none']);
  // An installed package has no books; then a text must be given, and there are no tasks.
  const needsBooks = tasks.length > 0 || options.text === undefined;
  const books = needsBooks ? await bundledCorpus() : [];
  const given = [...((options.kv as string[] | undefined) ?? [])];
  if (options.recipes) given.push(...(await recipesIn(options.recipes as string)));
  const { length, steps, n, rounds, seed } = options as unknown as Asked;
  const path = options.text as string | undefined;
  const question = options.question as string | undefined;
  return {
    recipes: [...new Set((given.length > 0 ? given : FIELD).map(text => formatRecipe(parseRecipe(text, '--kv'))))],
    text: {
      name: path === undefined ? 'a bundled book' : basename(path),
      content: path === undefined ? books.at(-1)! : await readText('--text', path),
      ...(question !== undefined && { question }),
    },
    length: length ?? (path === undefined ? LENGTH : undefined),
    steps,
    tasks,
    n,
    phrasing: bundled ? 'training' : 'natural',
    books,
    seed,
    rounds,
  };
}

async function recipesIn(path: string): Promise<string[]> {
  const recipes = recipeLines(await readText('--recipes', path));
  if (recipes.length === 0)
    throw new KvasirError('invalid_request', 'the file names no recipe', {
      field: '--recipes',
      value: path,
      allowed: 'recipes, one a line; # begins a comment',
    });
  return recipes;
}
