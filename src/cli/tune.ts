import { setImmediate } from 'node:timers/promises';
import type { Command } from 'commander';
import type { EngineOptions, LoadOptions, ModelInfo } from '../engine/types.ts';
import { KvasirError } from '../errors.ts';
import type { Metadata } from '../eval/metadata.node.ts';
import { findTask } from '../eval/tasks/index.ts';
import type { Measured } from '../eval/tune/evaluate.ts';
import { type TunePlan, USUAL_BASES } from '../eval/tune/plan.ts';
import { tune as runTune, type TuneResult } from '../eval/tune/tune.ts';
import { BASES } from '../methods/format/kvtuner.ts';
import { SANE } from '../methods/sane.ts';
import { resolveModel } from '../model/hub/catalogue.node.ts';
import { BUNDLED } from './eval.ts';
import { formatBytes, table } from './format.ts';
import { type Context, printJson } from './io.ts';
import {
  addOptions,
  bytes,
  type CliOption,
  ENGINE_OPTIONS,
  JSON_OUTPUT,
  LOAD_OPTIONS,
  MODEL,
  names,
  nonEmpty,
  number,
  pick,
} from './options.ts';
import { Progress } from './progress.ts';
import { readText } from './read-text.ts';

const whole = (min: number, max: number) => number({ min, max, integer: true });

const OWN: readonly CliOption[] = [
  {
    key: 'memory',
    flags: '--memory <bytes>',
    description: 'lose least within so much cache, after a prompt of --length tokens',
    accepts: bytes,
  },
  {
    key: 'agreement',
    flags: '--agreement <share>',
    description: 'hold least while so large a share of next tokens stays that of the full f32 cache',
    accepts: number({ min: 0, max: 1, above: true }),
  },
  {
    key: 'length',
    flags: '--length <tokens>',
    description: 'tokens of a prompt',
    accepts: whole(256, 1_000_000),
    default: 1024,
  },
  {
    key: 'steps',
    flags: '--steps <tokens>',
    description: 'tokens forced after it',
    accepts: whole(8, 512),
    default: 64,
  },
  {
    key: 'trials',
    flags: '--trials <count>',
    description: 'recipes measured, after the sensitivities of the layers',
    accepts: whole(1, 10_000),
    default: 60,
  },
  {
    key: 'windows',
    flags: '--windows <count>',
    description: 'windows of text that are searched on, at most: they do not overlap',
    accepts: whole(1, 64),
    default: 2,
  },
  {
    key: 'heldOut',
    flags: '--held-out <count>',
    description: 'windows of other text that the result is held against, at most',
    accepts: whole(1, 64),
    default: 4,
  },
  {
    key: 'base',
    flags: '--base <quantizers>',
    description: 'of the tables of widths, as the option base of kvtuner says; each has its sensitivities measured',
    accepts: names(BASES),
    default: USUAL_BASES,
  },
  {
    key: 'text',
    flags: '--text <path>',
    description: 'your own text: its first two thirds are searched on; default: bundled books',
    accepts: nonEmpty,
  },
  { key: 'n', flags: '--n <count>', description: 'instances of a held-out task', accepts: whole(1, 100), default: 4 },
  { key: 'seed', flags: '--seed <number>', description: 'other choices', accepts: whole(0, 1_000_000), default: 0 },
  {
    key: 'out',
    flags: '--out <path>',
    description: 'write the recipe file that --kv takes, of chat, generate, serve, eval, compare',
    accepts: nonEmpty,
  },
];
const LOAD = LOAD_OPTIONS.filter(option => option.key !== 'cache' && option.key !== 'kv');
const ENGINE = ENGINE_OPTIONS.filter(option => option.key !== 'memoryLimit');

/** `kvasir tune`: the recipe for a model, a text and so much memory, or so much quality. */
export function tuneCommand(command: Command, context: Context): Command {
  addOptions(command.description('find the recipe for a model within a limit of memory or of loss'), [
    MODEL,
    ...OWN,
    ...LOAD,
    ...ENGINE,
    JSON_OUTPUT,
  ]);
  return command.action((options: Record<string, unknown>) => tune(context, options));
}

async function tune(context: Context, options: Record<string, unknown>): Promise<void> {
  const { io } = context;
  const { memory, agreement } = options as { memory?: number; agreement?: number };
  if ((memory === undefined) === (agreement === undefined))
    throw new KvasirError('invalid_request', 'one goal is needed', {
      field: '--memory',
      value: memory === undefined ? 'none' : 'both --memory and --agreement',
      allowed: 'exactly one of --memory <bytes> and --agreement <share>',
    });
  const found = await resolveModel(context.catalogue, options.model as string);
  const load: LoadOptions = { ...found, ...pick(options, LOAD) };
  const goal = memory === undefined ? { agreement: agreement! } : { memory };
  const plan = await planOf(options, goal, found.name === BUNDLED);
  const [{ openModelForEval }, { metadata }, { writeWhole }] = await Promise.all([
    import('../eval/open.node.ts'),
    import('../eval/metadata.node.ts'),
    import('../eval/result.node.ts'),
  ]);

  const interrupt = new AbortController();
  const release = io.onInterrupt(() => interrupt.abort());
  const progress = new Progress(io, (done, total) => (total > 1 ? `${done}/${total}` : ''));
  try {
    const engine = pick(options, ENGINE) as EngineOptions;
    await using opened = await openModelForEval(load, engine, at => progress.update(at.what, at.fraction, 1));
    progress.stop();
    const result = await runTune(opened.model, plan, {
      onProgress: (what, done, total) => progress.update(what, done, total),
      async pause() {
        await setImmediate();
        if (interrupt.signal.aborted) throw new KvasirError('aborted', 'the search was stopped');
      },
    });
    progress.stop();
    const file = recipeFile(result, plan, opened.model.info, metadata());
    if (options.out) await writeWhole(options.out as string, `${JSON.stringify(file, null, 1)}\n`);
    if (options.json) printJson(io, { ...file, ...result });
    else io.stdout.write(report(result, plan, options.out as string | undefined));
  } finally {
    progress.stop();
    release();
  }
}

async function planOf(options: Record<string, unknown>, goal: TunePlan['goal'], bundled: boolean): Promise<TunePlan> {
  const { bundledCorpus } = await import('../eval/corpus.node.ts');
  const path = options.text as string | undefined;
  const books = path === undefined || bundled ? await bundledCorpus() : [];
  const { length, steps, windows, heldOut, trials, seed, n } = options as unknown as TunePlan;
  const bases = options.base as TunePlan['bases'];
  return {
    ...{ goal, length, steps, windows, heldOut, trials, bases, seed, n, books },
    texts: path === undefined ? { search: books.slice(0, -1).join('\n\n'), heldOut: books.at(-1)! } : await split(path),
    // Only the bundled model is known to master tasks with the full cache.
    tasks: bundled ? ['niah-number', 'niah-multikey', 'vt-1x4'].map(findTask) : [],
  };
}

async function split(path: string): Promise<TunePlan['texts']> {
  const text = await readText('--text', path);
  const cut = Math.floor((text.length * 2) / 3);
  return { search: text.slice(0, cut), heldOut: text.slice(cut) };
}

function recipeFile({ recipe, verdict, full }: TuneResult, plan: TunePlan, info: ModelInfo, run: Metadata) {
  const { tuned, beatsAll } = verdict;
  return {
    kvasir: 'recipe' as const,
    version: 1,
    recipe,
    model: { name: info.name, fingerprint: info.fingerprint },
    goal: plan.goal,
    measured: {
      ...{ length: plan.length, bytes: tuned.held, share: tuned.held / full },
      ...{ agreement: tuned.agreement, kl: tuned.kl, beatsSingleMethods: beatsAll },
    },
    run,
  };
}

function report(
  { recipe, found, verdict, full, windows }: TuneResult,
  plan: TunePlan,
  out: string | undefined,
): string {
  const { tuned, rivals, out: beyond, beatsAll } = verdict;
  const over = 'memory' in plan.goal && tuned.held > plan.goal.memory;
  const row = (each: Measured) => [
    each.recipe,
    formatBytes(Math.round(each.held)),
    `${((100 * each.held) / full).toFixed(1)} %`,
    (each.agreement * 100).toFixed(1),
    each.kl < 1e-9 ? '0' : each.kl.toPrecision(2),
  ];
  const head = ['held', 'of full', 'top-1 %', 'KL'];
  const tasks = tuned.of > 0 ? ['tasks'] : [];
  const rival = (each: (typeof rivals)[number]) => [
    each.method,
    ...row(each),
    ...(tuned.of > 0 ? [`${each.right}/${each.of}`] : []),
  ];
  const groups = found.bases.map(({ base, groups }) => `${groups.length} (${base})`).join(' and ');
  const worse = rivals.filter(each => each.kl <= tuned.kl || each.right > tuned.right).map(({ method }) => method);
  return [
    `Front of the search, ${plan.length} tokens, ${windows.searched} windows, ${found.measured} recipes measured, ${groups} groups of layers:`,
    table(['recipe', ...head], found.front.map(row)),
    '',
    `On ${windows.heldOut} windows and tasks that were not searched on, beside the best setting of each method that holds no more:`,
    table(['', 'recipe', ...head, ...tasks], [tuned, ...rivals].map(rival)),
    '',
    beatsAll
      ? 'The tuned recipe beats every recipe of one method at equal bytes.'
      : `The tuned recipe does not beat every recipe of one method at equal bytes: not ${worse.join(', ')}.`,
    ...(beyond.length > 0
      ? [`No setting that was tried holds so little, or suits the model: ${beyond.join(', ')}.`]
      : []),
    ...verdict.full
      .filter(({ right, of }) => right < SANE * of)
      .map(({ task, right, of }) => `The full cache itself scores ${right}/${of} on ${task}: left out.`),
    ...(over ? [`On the text held out it holds ${formatBytes(Math.round(tuned.held))}, more than asked for.`] : []),
    '',
    `--kv '${recipe}'`,
    ...(out === undefined ? [] : [`written to ${out}: --kv ${out}`]),
    '',
  ].join('\n');
}
