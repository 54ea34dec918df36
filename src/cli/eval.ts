import { setImmediate } from 'node:timers/promises';
import type { Command } from 'commander';
import { FORMAT_NAMES } from '../cache/types.ts';
import type { EngineOptions, LoadOptions } from '../engine/types.ts';
import { KvasirError } from '../errors.ts';
import { type CacheSetting, cacheSetting } from '../eval/cache-setting.ts';
import { reportTables } from '../eval/report.ts';
import { type Cell, type EvalPlan, METERS, runEval, TEXT_MEASURES } from '../eval/run.ts';
import { findTasks, TASKS } from '../eval/tasks/index.ts';
import type { Phrasing } from '../eval/tasks/types.ts';
import { formatRecipe, parseRecipe } from '../methods/recipe.ts';
import { resolveModel } from '../model/hub/catalogue.node.ts';
import { table } from './format.ts';
import { type Context, printJson } from './io.ts';
import {
  addOptions,
  type CliOption,
  choice,
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

export const names = (what: string) => ({
  what,
  parse: (text: string) => (/^[\w-]+(,[\w-]+)*$/.test(text) ? text.split(',') : undefined),
});
export const FORMATS = {
  what: `${FORMAT_NAMES.join(', ')}; several parted by commas`,
  parse(text: string) {
    const given = text.split(',');
    return given.every(name => (FORMAT_NAMES as readonly string[]).includes(name)) ? given : undefined;
  },
};
export const LENGTHS = {
  what: 'whole numbers from 1, parted by commas',
  parse(text: string) {
    const values = text.split(',').map(Number);
    return values.every(value => Number.isSafeInteger(value) && value >= 1) ? values : undefined;
  },
};
export const BUNDLED = 'kvasir-mini';

const OWN: readonly CliOption[] = [
  {
    key: 'tasks',
    flags: '--tasks <names>',
    description: `tasks, parted by commas: strong (those that ${BUNDLED} masters), all, ${[...TASKS.map(task => task.name), ...TEXT_MEASURES].join(', ')}`,
    accepts: names('names parted by commas'),
    default: ['strong'],
  },
  {
    key: 'lengths',
    flags: '--lengths <tokens>',
    description: 'lengths of the contexts, answers included; of the windows, for perplexity and divergence',
    accepts: LENGTHS,
    default: [512],
  },
  {
    key: 'n',
    flags: '--n <count>',
    description: 'instances of each task at each length; windows',
    accepts: number({ min: 1, max: 100_000, integer: true }),
    default: 10,
  },
  {
    key: 'cache',
    flags: '--cache <settings>',
    description: 'page formats, each with each recipe, on the same instances',
    accepts: FORMATS,
    default: ['f32'],
  },
  {
    key: 'kv',
    flags: '--kv <recipe>',
    description: "what is done to the KV cache, such as 'snapkv(keep=0.25) + kivi(bits=2)'; default: full",
    accepts: recipe,
    list: true,
  },
  {
    key: 'meter',
    flags: '--meter <meter>',
    description: 'forced: every token of the answer is the likeliest given those before; greedy: write and compare',
    accepts: choice(Object.keys(METERS)),
    default: 'forced',
  },
  {
    key: 'phrasing',
    flags: '--phrasing <style>',
    description: `how questions are put: as ${BUNDLED} was trained, or for other models; default by the model`,
    accepts: choice(['training', 'natural']),
  },
  {
    key: 'seed',
    flags: '--seed <number>',
    description: 'other instances',
    accepts: number({ min: 0, max: Number.MAX_SAFE_INTEGER, integer: true }),
    default: 0,
  },
  {
    key: 'text',
    flags: '--text <path>',
    description: 'a text for perplexity and divergence; default: the bundled books',
    accepts: nonEmpty,
  },
  { key: 'prefill', flags: '--prefill <order>', description: 'order of prefill', accepts: choice(['token', 'layer']) },
  {
    key: 'out',
    flags: '--out <path>',
    description: 'write the results with all metadata here, after each cell',
    accepts: nonEmpty,
  },
];
const LOAD = LOAD_OPTIONS.filter(option => option.key !== 'cache' && option.key !== 'kv');

/** `kvasir eval`: what a model gets right, and how far a cache setting moves it. */
export function evalCommand(command: Command, context: Context): Command {
  addOptions(command.description('measure a model on tasks, under settings of the cache'), [
    MODEL,
    ...OWN,
    ...LOAD,
    ...ENGINE_OPTIONS,
    JSON_OUTPUT,
  ]);
  return command.action((options: Record<string, unknown>) => evaluate(context, options));
}

async function evaluate(context: Context, options: Record<string, unknown>): Promise<void> {
  const { io } = context;
  // Whatever was asked for wrongly is refused before a model is loaded.
  const partial = await planOf(options);
  const found = await resolveModel(context.catalogue, options.model as string);
  const load: LoadOptions = { ...found, ...pick(options, LOAD) };
  const plan: EvalPlan = {
    ...partial,
    phrasing: (options.phrasing as Phrasing) ?? (found.name === BUNDLED ? 'training' : 'natural'),
  };
  const [{ openModelForEval }, { metadata }, { evalResult, writeWhole }] = await Promise.all([
    import('../eval/open.node.ts'),
    import('../eval/metadata.node.ts'),
    import('../eval/result.node.ts'),
  ]);

  const interrupt = new AbortController();
  const release = io.onInterrupt(() => interrupt.abort());
  const progress = new Progress(io, (done, total) => (total > 1 ? `${done}/${total}` : ''));
  try {
    const engine = pick(options, ENGINE_OPTIONS) as EngineOptions;
    await using opened = await openModelForEval(load, engine, at => progress.update(at.what, at.fraction, 1));
    progress.stop();
    const run = metadata();
    const resultOf = (cells: readonly Cell[]) => evalResult(opened.model.info, plan, cells, run);
    const done: Cell[] = [];
    const cells = await runEval(opened.model, plan, {
      onProgress: (what, count, total) => progress.update(what, count, total),
      // A long run that is stopped leaves what it had.
      async onCell(cell) {
        done.push(cell);
        if (options.out) await writeWhole(options.out as string, `${JSON.stringify(resultOf(done), null, 1)}\n`);
      },
      async pause() {
        await setImmediate();
        if (interrupt.signal.aborted) throw new KvasirError('aborted', 'the evaluation was stopped');
      },
    });
    progress.stop();
    const result = resultOf(cells);
    if (options.json) printJson(io, result);
    else
      io.stdout.write(
        `${reportTables(cells)
          .map(({ head, rows }) => table(head, rows))
          .join('\n\n')}\n`,
      );
  } finally {
    progress.stop();
    release();
  }
}

async function planOf(options: Record<string, unknown>): Promise<Omit<EvalPlan, 'phrasing'>> {
  const { bundledCorpus } = await import('../eval/corpus.node.ts');
  const asked = [...new Set(options.tasks as string[])];
  const texts = TEXT_MEASURES.filter(kind => asked.includes(kind));
  const named = asked.filter(name => !texts.includes(name as (typeof texts)[number]));
  const { lengths, n, seed, meter, prefill } = options as unknown as EvalPlan & { prefill?: 'token' | 'layer' };
  return {
    tasks: findTasks(named, TEXT_MEASURES),
    texts,
    lengths,
    n,
    seed,
    meter,
    caches: cacheSettings((options.kv as string[] | undefined) ?? ['full'], options.cache as string[], prefill),
    books: await bundledCorpus(),
    ...(options.text !== undefined && { text: await readText('--text', options.text as string) }),
  };
}

/** Every recipe on every page format, each once. */
export function cacheSettings(recipes: string[], formats: string[], prefill?: 'token' | 'layer'): CacheSetting[] {
  const settings = recipes.flatMap(given => {
    const kv = formatRecipe(parseRecipe(given, '--kv'));
    return formats.map(format => cacheSetting(`${kv} @ ${format}`, prefill));
  });
  return [...new Map(settings.map(setting => [setting.name, setting])).values()];
}
