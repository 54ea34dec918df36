import { setImmediate } from 'node:timers/promises';
import type { Command } from 'commander';
import type { EngineOptions, LoadOptions } from '../engine/types.ts';
import { KvasirError } from '../errors.ts';
import { SPLITS } from '../eval/scbench/generate.ts';
import { MODES, type Mode } from '../eval/scbench/play.ts';
import { scbenchTables } from '../eval/scbench/report.ts';
import { runScbench, type ScbenchCell, type ScbenchPlan, WRITES } from '../eval/scbench/run.ts';
import { findScbenchTask, SCBENCH_TASKS } from '../eval/scbench/tasks/index.ts';
import type { Phrasing } from '../eval/tasks/types.ts';
import { resolveModel } from '../model/hub/catalogue.node.ts';
import { BUNDLED, cacheSettings, FORMATS, LENGTHS, names } from './eval.ts';
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

const MODE_LIST = {
  what: `${MODES.join(', ')}; both parted by a comma`,
  parse(text: string) {
    const given = text.split(',');
    return given.every(name => (MODES as readonly string[]).includes(name)) ? [...new Set(given)] : undefined;
  },
};

const OWN: readonly CliOption[] = [
  {
    key: 'tasks',
    flags: '--tasks <names>',
    description: `tasks, parted by commas: all, ${SCBENCH_TASKS.map(task => task.name).join(', ')}`,
    accepts: names('names parted by commas'),
    default: ['all'],
  },
  {
    key: 'modes',
    flags: '--modes <names>',
    description: 'one conversation over the context, or requests that start from its cache one by one',
    accepts: MODE_LIST,
    default: [...MODES],
  },
  {
    key: 'lengths',
    flags: '--lengths <tokens>',
    description: 'lengths of the shared contexts, questions and answers apart',
    accepts: LENGTHS,
    default: [512],
  },
  {
    key: 'n',
    flags: '--n <count>',
    description: 'sessions of each task at each length, five questions each',
    accepts: number({ min: 1, max: 100_000, integer: true }),
    default: 4,
  },
  {
    key: 'cache',
    flags: '--cache <settings>',
    description: 'page formats, each with each recipe, on the same sessions',
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
    key: 'write',
    flags: '--write <tasks>',
    description: `tasks whose answers are written and scored: able (those that ${BUNDLED} is made for), all or none; the others are compared with the full cache by forced tokens; default: able for ${BUNDLED}, else none`,
    accepts: choice(WRITES),
  },
  {
    key: 'ownAnswers',
    flags: '--own-answers',
    description: 'later turns see what the model wrote, not the right answers',
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
    description: 'other sessions',
    accepts: number({ min: 0, max: Number.MAX_SAFE_INTEGER, integer: true }),
    default: 0,
  },
  {
    key: 'split',
    flags: '--split <split>',
    description: 'sessions to choose settings on (tune) are never those to report (test)',
    accepts: choice(SPLITS),
    default: 'test',
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

/** `kvasir scbench`: several questions over one shared context, and what a recipe leaves for the later ones. */
export function scbenchCommand(command: Command, context: Context): Command {
  addOptions(command.description('measure recipes on several questions over one shared context (SCBench)'), [
    MODEL,
    ...OWN,
    ...LOAD,
    ...ENGINE_OPTIONS,
    JSON_OUTPUT,
  ]);
  return command.action((options: Record<string, unknown>) => run(context, options));
}

async function run(context: Context, options: Record<string, unknown>): Promise<void> {
  const { io } = context;
  // Whatever was asked for wrongly is refused before a model is loaded.
  const partial = planOf(options);
  const found = await resolveModel(context.catalogue, options.model as string);
  const load: LoadOptions = { ...found, ...pick(options, LOAD) };
  const bundled = found.name === BUNDLED;
  const write = (options.write as ScbenchPlan['write'] | undefined) ?? (bundled ? 'able' : 'none');
  const plan: ScbenchPlan = {
    ...partial,
    phrasing: (options.phrasing as Phrasing) ?? (bundled ? 'training' : 'natural'),
    // Answers that later turns are to see must be written.
    write: partial.ownAnswers && options.write === undefined ? 'all' : write,
  };
  const [{ openModelForEval }, { metadata }, { scbenchResult }, { writeWhole }] = await Promise.all([
    import('../eval/open.node.ts'),
    import('../eval/metadata.node.ts'),
    import('../eval/scbench/result.node.ts'),
    import('../eval/result.node.ts'),
  ]);

  const interrupt = new AbortController();
  const release = io.onInterrupt(() => interrupt.abort());
  const progress = new Progress(io, (done, total) => (total > 1 ? `${done}/${total}` : ''));
  try {
    const engine = pick(options, ENGINE_OPTIONS) as EngineOptions;
    await using opened = await openModelForEval(load, engine, at => progress.update(at.what, at.fraction, 1));
    progress.stop();
    const started = metadata();
    const done: ScbenchCell[] = [];
    const cells = await runScbench(opened.model, plan, {
      onProgress: (what, count, total) => progress.update(what, count, total),
      // A long run that is stopped leaves what it had.
      async onCell(cell) {
        done.push(cell);
        const result = scbenchResult(opened.model.info, plan, done, started);
        if (options.out) await writeWhole(options.out as string, `${JSON.stringify(result, null, 1)}\n`);
      },
      async pause() {
        await setImmediate();
        if (interrupt.signal.aborted) throw new KvasirError('aborted', 'the evaluation was stopped');
      },
    });
    progress.stop();
    if (options.json) printJson(io, scbenchResult(opened.model.info, plan, cells, started));
    else
      io.stdout.write(
        `${scbenchTables(cells)
          .map(({ caption, head, rows }) => `${caption}\n\n${table(head, rows)}`)
          .join('\n\n')}\n`,
      );
  } finally {
    progress.stop();
    release();
  }
}

function planOf(options: Record<string, unknown>): Omit<ScbenchPlan, 'phrasing' | 'write'> {
  const tasks = (options.tasks as string[]).flatMap(name => (name === 'all' ? SCBENCH_TASKS : [findScbenchTask(name)]));
  const { lengths, n, seed, split } = options as unknown as ScbenchPlan;
  return {
    tasks: [...new Set(tasks)],
    modes: options.modes as Mode[],
    lengths,
    n,
    seed,
    split,
    ownAnswers: options.ownAnswers === true,
    caches: cacheSettings(
      // What the others are compared with comes first, also where it was not named.
      [...new Set(['full', ...((options.kv as string[] | undefined) ?? [])])],
      options.cache as string[],
      options.prefill as 'token' | 'layer' | undefined,
    ),
  };
}
