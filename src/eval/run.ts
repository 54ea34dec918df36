import type { LoadedModel } from '../engine/loaded-model.ts';
import { KvasirError } from '../errors.ts';
import { type CacheSetting, FULL } from './cache-setting.ts';
import type { Pause } from './feed.ts';
import { Divergence, type DivergenceResult, divergence } from './meters/divergence.ts';
import { forced, greedy, type Outcome } from './meters/exact.ts';
import { type PerplexityResult, perplexity, windowsOf } from './meters/perplexity.ts';
import { TASKS } from './tasks/index.ts';
import type { Phrasing, Task } from './tasks/types.ts';
import { createTools, generate } from './tools.ts';

export const METERS = { forced, greedy } as const;

/** What to run: every task at every length under every cache setting, on the same instances. */
export interface EvalPlan {
  readonly tasks: readonly Task[];
  /** Measures of running text, by windows of the given lengths. */
  readonly texts: readonly TextMeasure[];
  readonly lengths: readonly number[];
  /** Instances a cell; windows of a text. */
  readonly n: number;
  readonly seed: number;
  readonly caches: readonly CacheSetting[];
  readonly meter: keyof typeof METERS;
  readonly phrasing: Phrasing;
  /** What haystacks are made of. */
  readonly books: readonly string[];
  /** What perplexity and divergence read; default the books. */
  readonly text?: string;
}

export type TextMeasure = 'perplexity' | 'divergence';
export const TEXT_MEASURES: readonly TextMeasure[] = ['perplexity', 'divergence'];

interface CellKey {
  readonly length: number;
  readonly cache: string;
  readonly seconds: number;
}

export interface TaskCell extends CellKey {
  readonly kind: 'task';
  readonly task: string;
  readonly title: string;
  readonly n: number;
  /** Instances with every answer right, and all answers of all instances. */
  readonly right: number;
  readonly answers: { readonly count: number; readonly right: number };
  readonly meanTokens: number;
  /** Bytes of the cache when the last answer had been read (mean), and the most of any instance. */
  readonly held: number;
  readonly peak: number;
  /** One an instance: which answers were right. */
  readonly outcomes: readonly (readonly boolean[])[];
}

export interface TextCell extends CellKey {
  readonly kind: TextMeasure;
  readonly windows: number;
  readonly result: PerplexityResult | DivergenceResult;
}

export type Cell = TaskCell | TextCell;

export interface EvalEvents {
  /** `done` of `total` instances and windows. */
  onProgress?(what: string, done: number, total: number): void;
  onCell?(cell: Cell): void | Promise<void>;
  pause?: Pause;
}

/**
 * Runs the plan, cell by cell; the same plan, model and engine settings give the same cells. The model must do nothing else
 * meanwhile: its forward pass has one work space.
 */
export async function runEval(model: LoadedModel, plan: EvalPlan, events: EvalEvents = {}): Promise<Cell[]> {
  check(model, plan);
  const { tokenizer } = model;
  const setup = { tokenizer, chat: model.info.hasChatTemplate, phrasing: plan.phrasing, books: plan.books };
  const tools = plan.tasks.length > 0 ? createTools(setup) : undefined;
  const each = plan.n * plan.caches.length * plan.lengths.length;
  const total = each * (plan.tasks.length + plan.texts.length);
  const cells: Cell[] = [];
  let done = 0;
  const step = (what: string) => events.onProgress?.(what, ++done, total);
  const add = async (cell: Cell) => {
    cells.push(cell);
    await events.onCell?.(cell);
  };

  for (const task of plan.tasks) {
    for (const length of plan.lengths) {
      const samples = Array.from({ length: plan.n }, (_, i) => generate(task, length, plan.seed, i, tools!, setup));
      for (const cache of plan.caches) {
        const begin = performance.now();
        const outcomes: Outcome[] = [];
        for (const sample of samples) {
          outcomes.push(await METERS[plan.meter](model, cache, sample, events.pause));
          step(`${task.name} ${length} ${cache.name}`);
        }
        const tokens = samples.map(sample => sample.encoded.tokens);
        await add({ ...summary(task, outcomes, tokens), length, cache: cache.name, seconds: seconds(begin) });
      }
    }
  }
  // A recipe acts at the end of a prompt and at each step after it: then the first half of a window is the prompt, under all
  // settings, and what is measured is the second half.
  const halves = plan.caches.some(cache => cache.kv);
  for (const kind of plan.texts) {
    const tokens = tokenizer.encode(plan.text ?? plan.books.join('\n\n'));
    for (const length of plan.lengths) {
      const windows = windowsOf(tokens, length, plan.n);
      for (const cache of plan.caches) {
        const begin = performance.now();
        const result = await measureText(model, kind, cache, windows, halves, events.pause, () =>
          step(`${kind} ${length} ${cache.name}`),
        );
        await add({ kind, length, cache: cache.name, windows: windows.length, result, seconds: seconds(begin) });
      }
    }
  }
  return cells;
}

async function measureText(
  model: LoadedModel,
  kind: TextMeasure,
  cache: CacheSetting,
  windows: readonly (readonly number[])[],
  halves: boolean,
  pause: Pause | undefined,
  step: () => void,
): Promise<PerplexityResult | DivergenceResult> {
  const promptOf = (window: readonly number[]) => (halves ? window.length >> 1 : 0);
  if (kind === 'perplexity') return perplexity(model, cache, windows, promptOf, pause, step);
  const sum = new Divergence();
  for (const window of windows) {
    const prompt = promptOf(window);
    await divergence(model, cache, window.slice(0, prompt), window.slice(prompt), sum, pause);
    step();
  }
  return sum.result();
}

function summary(task: Task, outcomes: readonly Outcome[], tokens: readonly number[]) {
  const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  const answers = outcomes.flatMap(outcome => outcome.right);
  return {
    kind: 'task' as const,
    task: task.name,
    title: task.title,
    n: outcomes.length,
    right: outcomes.filter(outcome => outcome.right.every(Boolean)).length,
    answers: { count: answers.length, right: answers.filter(Boolean).length },
    meanTokens: sum(tokens) / tokens.length,
    held: sum(outcomes.map(outcome => outcome.held)) / outcomes.length,
    peak: Math.max(...outcomes.map(outcome => outcome.peak)),
    outcomes: outcomes.map(outcome => outcome.right),
  };
}

const seconds = (begin: number) => (performance.now() - begin) / 1000;

function check(model: LoadedModel, plan: EvalPlan): void {
  const { context } = model.info;
  for (const length of plan.lengths) {
    if (Number.isInteger(length) && length >= 1 && length <= context) continue;
    const allowed = `whole numbers from 1 to ${context}, the context of the model`;
    throw new KvasirError('invalid_request', 'a length does not fit the model', {
      field: 'lengths',
      value: length,
      allowed,
    });
  }
  if (plan.tasks.length + plan.texts.length === 0)
    throw new KvasirError('invalid_request', 'there is nothing to run', {
      field: 'tasks',
      allowed: [...TASKS.map(task => task.name), ...TEXT_MEASURES],
    });
  if (plan.caches.length === 0)
    throw new KvasirError('invalid_request', 'no cache setting is given', { field: 'cache', allowed: [FULL.name] });
  if (!(Number.isInteger(plan.n) && plan.n >= 1))
    throw new KvasirError('invalid_request', 'a cell needs instances', {
      field: 'n',
      value: plan.n,
      allowed: 'at least 1',
    });
}
