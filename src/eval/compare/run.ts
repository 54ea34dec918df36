import type { LoadedModel } from '../../engine/loaded-model.ts';
import { KvasirError } from '../../errors.ts';
import type { CacheSetting } from '../cache-setting.ts';
import type { Pause } from '../feed.ts';
import { forced } from '../meters/exact.ts';
import type { Task } from '../tasks/types.ts';
import { createTools, generate, type Sample } from '../tools.ts';
import { type Quality, quality, type Speed, speed, type Truth, truthOf } from './measure.ts';
import { type ComparePlan, contextsOf, settingsOf } from './plan.ts';
import { type ComparePrompt, promptOf } from './prompt.ts';

export interface TaskScore {
  readonly task: string;
  readonly right: number;
  readonly n: number;
}

/** One thing measured of one recipe; `failed` says why there is nothing else. */
export type Cell =
  | { readonly kind: 'quality'; readonly recipe: string; readonly quality: Quality }
  | { readonly kind: 'speed'; readonly recipe: string; readonly round: number; readonly speed: Speed }
  | { readonly kind: 'task'; readonly recipe: string; readonly score: TaskScore }
  | { readonly kind: 'failed'; readonly recipe: string; readonly failed: string };

/** Cells by name; those that are there already are not measured again. */
export type Cells = Record<string, Cell>;

export interface CompareEvents {
  onProgress?(what: string, done: number, total: number): void;
  /** A cell is done: whoever keeps cells keeps it now. */
  onCell?(name: string, cell: Cell): void | Promise<void>;
  readonly signal?: AbortSignal;
  /** Lets other events in, between tiles. */
  readonly yields?: () => Promise<void>;
}

interface Job {
  readonly name: string;
  readonly what: string;
  readonly setting: CacheSetting;
  measure(): Promise<Cell>;
}

/**
 * Measures what is not yet among `cells`: quality recipe by recipe, then speed in rounds in which all recipes take their turn,
 * then tasks, all recipes on the same instances. A recipe that fails is left out of what follows. The model must do nothing else.
 */
export async function runCompare(
  model: LoadedModel,
  plan: ComparePlan,
  cells: Cells,
  events: CompareEvents = {},
): Promise<{ prompt: ComparePrompt; settings: readonly CacheSetting[] }> {
  const settings = settingsOf(plan, model);
  const prompt = promptOf(model, plan);
  const pause: Pause = async () => {
    await events.yields?.();
    if (events.signal?.aborted) throw new KvasirError('aborted', 'the comparison was stopped');
  };
  const jobs = jobsOf(model, plan, prompt, settings, pause);
  let done = 0;
  for (const { name, what, setting, measure } of jobs) {
    events.onProgress?.(what, done++, jobs.length);
    if (cells[name] || cells[failedName(setting)]) continue;
    let cell: Cell;
    let key = name;
    try {
      cell = await measure();
    } catch (error) {
      if (!(error instanceof KvasirError) || error.code === 'aborted') throw error;
      cell = { kind: 'failed', recipe: setting.name, failed: error.message };
      key = failedName(setting);
    }
    cells[key] = cell;
    await events.onCell?.(key, cell);
  }
  events.onProgress?.('done', jobs.length, jobs.length);
  return { prompt, settings };
}

const failedName = ({ name }: CacheSetting): string => `failed ${name}`;

function jobsOf(
  model: LoadedModel,
  plan: ComparePlan,
  prompt: ComparePrompt,
  settings: readonly CacheSetting[],
  pause: Pause,
): Job[] {
  let truth: Promise<Truth> | undefined;
  const qualities = settings.map((setting): Job => {
    const { name: recipe } = setting;
    return {
      name: `quality ${recipe}`,
      what: `${recipe}: quality`,
      setting,
      async measure() {
        truth ??= truthOf(model, prompt, plan.steps, pause);
        return {
          kind: 'quality',
          recipe,
          quality: await quality(model, setting, prompt, await truth, plan.steps, pause),
        };
      },
    };
  });
  const speeds = contextsOf(prompt.tokens.length).flatMap(context =>
    Array.from({ length: plan.rounds }, (_, round) =>
      settings.map((setting): Job => {
        const { name: recipe } = setting;
        const tokens = prompt.tokens.slice(0, context);
        return {
          name: `speed ${context} ${round} ${recipe}`,
          what: `${recipe}: speed after ${context}`,
          setting,
          measure: async () => ({ kind: 'speed', recipe, round, speed: await speed(model, setting, tokens, pause) }),
        };
      }),
    ).flat(),
  );
  const samples = new Map<Task, Sample[]>();
  const scores = plan.tasks.flatMap(task =>
    settings.map(
      (setting): Job => ({
        name: `task ${task.name} ${setting.name}`,
        what: `${setting.name}: ${task.name}`,
        setting,
        async measure() {
          if (!samples.has(task)) samples.set(task, samplesOf(model, plan, task));
          let right = 0;
          for (const sample of samples.get(task)!)
            if ((await forced(model, setting, sample, pause)).right.every(Boolean)) right++;
          return { kind: 'task', recipe: setting.name, score: { task: task.name, right, n: plan.n } };
        },
      }),
    ),
  );
  return [...qualities, ...speeds, ...scores];
}

function samplesOf(model: LoadedModel, plan: ComparePlan, task: Task): Sample[] {
  const { tokenizer, info } = model;
  const setup = { tokenizer, chat: info.hasChatTemplate, phrasing: plan.phrasing, books: plan.books };
  const tools = createTools(setup);
  return Array.from({ length: plan.n }, (_, i) => generate(task, plan.length, plan.seed, i, tools, setup));
}
