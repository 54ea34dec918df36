import type { LoadedModel } from '../../engine/loaded-model.ts';
import type { CacheSetting } from '../cache-setting.ts';
import type { Metadata } from '../metadata.node.ts';
import type { Quality } from './measure.ts';
import type { ComparePlan } from './plan.ts';
import { binTexts, type ComparePrompt } from './prompt.ts';
import type { Cells, TaskScore } from './run.ts';

export const RESULT_VERSION = 2;

export interface SpeedRow {
  readonly context: number;
  /** Medians over rounds and steps. */
  readonly firstTokenMs: number;
  readonly tokensPerSecond: number;
}

export interface CompareRow {
  readonly recipe: string;
  readonly failed?: string;
  readonly quality?: Quality;
  readonly speed: readonly SpeedRow[];
  readonly tasks: readonly TaskScore[];
}

export interface CompareRun extends Metadata {
  /** Of the whole run, loading included. */
  readonly seconds: number;
  /** Measurements that stood there already. */
  readonly reused: number;
}

/** All that tables and reports are made of. The first row is the full f32 cache. */
export interface CompareResult {
  readonly kvasir: 'compare';
  readonly version: number;
  readonly run: CompareRun;
  readonly model: {
    readonly name: string;
    readonly fingerprint: string;
    readonly parameters: number;
    readonly layers: number;
    readonly kvHeads: number;
  };
  readonly plan: {
    readonly text: string;
    readonly question: string | null;
    /** Tokens of the text that were taken, and that it has. */
    readonly taken: number;
    readonly whole: number;
    readonly promptTokens: number;
    readonly steps: number;
    readonly tasks: readonly { readonly name: string; readonly title: string }[];
    readonly n: number;
    readonly seed: number;
    readonly rounds: number;
  };
  /** What stands at each place of the maps. */
  readonly bins: readonly string[];
  readonly rows: readonly CompareRow[];
}

export function compareResult(
  model: LoadedModel,
  plan: ComparePlan,
  { prompt, settings }: { readonly prompt: ComparePrompt; readonly settings: readonly CacheSetting[] },
  cells: Cells,
  run: CompareRun,
): CompareResult {
  const { name, fingerprint, parameters, layers, kvHeads } = model.info;
  const { text, steps, tasks, n, seed, rounds } = plan;
  const all = Object.values(cells);
  return {
    kvasir: 'compare',
    version: RESULT_VERSION,
    run,
    model: { name, fingerprint, parameters, layers, kvHeads },
    plan: {
      text: text.name,
      question: text.question ?? null,
      taken: prompt.taken,
      whole: prompt.whole,
      promptTokens: prompt.tokens.length,
      steps,
      tasks: tasks.map(task => ({ name: task.name, title: task.title })),
      n,
      seed,
      rounds,
    },
    bins: binTexts(model, prompt.tokens),
    rows: settings.map(({ name: recipe }): CompareRow => {
      const own = all.filter(cell => cell.recipe === recipe);
      const failed = own.find(cell => cell.kind === 'failed')?.failed;
      const measured = own.find(cell => cell.kind === 'quality')?.quality;
      const speeds = own.flatMap(cell => (cell.kind === 'speed' ? [cell.speed] : []));
      const contexts = [...new Set(speeds.map(({ context }) => context))].sort((a, b) => a - b);
      return {
        recipe: recipe === 'f32' ? 'full' : recipe,
        ...(failed !== undefined && { failed }),
        ...(measured && { quality: measured }),
        speed: contexts.map(context => {
          const here = speeds.filter(each => each.context === context);
          return {
            context,
            firstTokenMs: median(here.map(({ firstTokenMs }) => firstTokenMs)),
            tokensPerSecond: 1000 / median(here.flatMap(({ stepMs }) => stepMs)),
          };
        }),
        tasks: own.flatMap(cell => (cell.kind === 'task' ? [cell.score] : [])),
      };
    }),
  };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Entries of all layers and heads, averaged. */
export function meanLength({ lengths }: Quality): number {
  const all = lengths.flat();
  return all.reduce((sum, length) => sum + length, 0) / all.length;
}
