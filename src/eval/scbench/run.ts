import type { LoadedModel } from '../../engine/loaded-model.ts';
import { type ErrorJSON, KvasirError } from '../../errors.ts';
import { type CacheSetting, FULL } from '../cache-setting.ts';
import type { Pause } from '../feed.ts';
import type { Phrasing } from '../tasks/types.ts';
import { type CellMeans, CellSums } from './cell.ts';
import { type EncodedSession, encodeSession, longest } from './encode.ts';
import { generateSession, generatorHash, type Split } from './generate.ts';
import { type Mode, play } from './play.ts';
import type { Category, ScbenchSession, ScbenchTask, ScbenchTools } from './types.ts';

/** For which tasks answers are written and scored; the others are compared with the full cache on forced tokens only. */
export const WRITES = ['able', 'all', 'none'] as const;

export interface ScbenchPlan {
  readonly tasks: readonly ScbenchTask[];
  readonly modes: readonly Mode[];
  /** Tokens of the shared contexts. */
  readonly lengths: readonly number[];
  /** Sessions a cell. */
  readonly n: number;
  readonly seed: number;
  readonly split: Split;
  readonly caches: readonly CacheSetting[];
  readonly phrasing: Phrasing;
  readonly write: (typeof WRITES)[number];
  /** Later turns see what the model wrote, not the reference answers. */
  readonly ownAnswers: boolean;
}

export interface CellKey {
  readonly task: string;
  readonly category: Category;
  /** Version of what the task's generator makes. */
  readonly generator: string;
  readonly mode: Mode;
  readonly length: number;
  readonly cache: string;
}

/** What one setting made of one task; or why it cannot be used like this. */
export type ScbenchCell = CellKey & { readonly seconds: number } & (CellMeans | { readonly refused: ErrorJSON });

export interface ScbenchEvents {
  onProgress?(what: string, done: number, total: number): void;
  onCell?(cell: ScbenchCell): void | Promise<void>;
  /** A cell that is known already: it is handed out as it is, and not run again. */
  known?(key: CellKey): ScbenchCell | undefined;
  pause?: Pause;
}

/** Tokens beyond the reference that an answer may take, where the paper allows so many. */
const SLACK = 24;
/** The cache, or the engine, says no to a recipe: nothing else is wrong. */
const REFUSALS: readonly string[] = [
  'unsupported',
  'invalid_request',
  'invalid_recipe',
  'kv_cache_full',
  'memory_limit',
];

/**
 * Runs the plan; the same plan, model and engine settings give the same scores. The full f32 cache runs along as what the others are
 * compared with. The model must do nothing else meanwhile: its forward pass has one work space.
 */
export async function runScbench(
  model: LoadedModel,
  plan: ScbenchPlan,
  events: ScbenchEvents = {},
): Promise<ScbenchCell[]> {
  check(model, plan);
  const cells: ScbenchCell[] = [];
  const total = plan.tasks.length * plan.lengths.length * plan.modes.length * plan.n * plan.caches.length;
  let done = 0;
  for (const task of plan.tasks) {
    const generator = generatorHash(task);
    for (const length of plan.lengths) {
      const sessions = sessionsOf(model, task, length, plan);
      for (const mode of plan.modes) {
        const key = (cache: CacheSetting): CellKey => ({
          task: task.name, category: task.category, generator, mode, length, cache: cache.name,
        }); // biome-ignore format: one line reads as the list it is
        const fresh = plan.caches.filter(cache => !events.known?.(key(cache)));
        done += plan.n * (plan.caches.length - fresh.length);
        const group = await runGroup(model, sessions, fresh, mode, plan, events.pause, cache =>
          events.onProgress?.(`${task.name} ${length} ${mode} ${cache.name}`, ++done, total),
        );
        for (const cache of plan.caches) {
          const known = events.known?.(key(cache));
          const cell = known ?? { ...key(cache), ...group.get(cache)! };
          cells.push(cell);
          if (!known) await events.onCell?.(cell);
        }
      }
    }
  }
  return cells;
}

interface Prepared {
  readonly session: ScbenchSession;
  readonly encoded: EncodedSession;
  readonly write: readonly number[];
}

function sessionsOf(model: LoadedModel, task: ScbenchTask, length: number, plan: ScbenchPlan): Prepared[] {
  const { tokenizer, info } = model;
  const tools: ScbenchTools = {
    phrasing: plan.phrasing,
    count: text => tokenizer.encode(text, { addBos: false, parseSpecial: false }).length,
  };
  const writes = plan.write === 'all' || (plan.write === 'able' && task.able);
  const probe = { id: '', context: 'a', turns: [] };
  const overhead = encodeSession(tokenizer, probe, info.hasChatTemplate).context.length;
  return Array.from({ length: plan.n }, (_, index) => {
    const session = generateSession(task, { split: plan.split, length, seed: plan.seed, index }, tools, overhead);
    const encoded = encodeSession(tokenizer, session, info.hasChatTemplate);
    const most = session.turns.map(({ kind }, i) => {
      const limit = typeof task.newTokens === 'number' ? task.newTokens : task.newTokens[kind!]!;
      const own = encoded.turns[i]!.reference.length;
      return Math.min(Math.max(limit, own + 1), own + SLACK);
    });
    if (longest(encoded, most) > info.context)
      throw new KvasirError('invalid_request', 'a context leaves no room for its questions', {
        field: 'lengths',
        value: length,
        allowed: `lengths that leave some ${longest(encoded, most) - encoded.context.length} of the model's ${info.context} tokens`,
      });
    return { session, encoded, write: most.map(tokens => (writes ? tokens : 0)) };
  });
}

type Result = { readonly seconds: number } & (CellMeans | { readonly refused: ErrorJSON });

/** All settings on the same sessions, session by session: what the full cache says of one is kept no longer than that. */
async function runGroup(
  model: LoadedModel,
  sessions: readonly Prepared[],
  caches: readonly CacheSetting[],
  mode: Mode,
  plan: ScbenchPlan,
  pause: Pause | undefined,
  step: (cache: CacheSetting) => void,
): Promise<Map<CacheSetting, Result>> {
  const own = plan.ownAnswers && mode === 'multi-turn';
  const transcript = own ? 'own' : 'reference';
  const how = { mode, ...(pause && { pause }) };
  const sums = new Map(caches.map(cache => [cache, new CellSums()]));
  const seconds = new Map(caches.map(cache => [cache, 0]));
  const refused = new Map<CacheSetting, ErrorJSON>();
  if (caches.length === 0) return new Map();
  for (const { session, encoded, write } of sessions) {
    const start = performance.now();
    const dense = await play(model, FULL, encoded, { ...how, transcript, write });
    for (const cache of caches) {
      step(cache);
      if (refused.has(cache)) continue;
      const begin = cache.name === FULL.name ? start : performance.now();
      let played = dense;
      try {
        if (cache.name !== FULL.name) played = await play(model, cache, encoded, { ...how, transcript, write });
      } catch (error) {
        if (!(error instanceof KvasirError && REFUSALS.includes(error.code))) throw error;
        refused.set(cache, error.toJSON());
        continue;
      }
      const written = played.turns.map(turn => turn.written);
      const truth =
        own && played !== dense
          ? await play(model, FULL, encoded, { ...how, transcript: written, write: write.map(() => 0) })
          : dense;
      const texts = write.some(most => most > 0) ? written.map(tokens => model.tokenizer.decode(tokens)) : null;
      sums.get(cache)!.add(session, encoded, played, truth, texts);
      seconds.set(cache, seconds.get(cache)! + (performance.now() - begin) / 1000);
    }
  }
  return new Map(
    caches.map((cache): [CacheSetting, Result] => {
      const error = refused.get(cache);
      return [cache, { seconds: seconds.get(cache)!, ...(error ? { refused: error } : sums.get(cache)!.means()) }];
    }),
  );
}

function check(model: LoadedModel, plan: ScbenchPlan): void {
  const refuse = (field: string, value: unknown, allowed: string) => {
    throw new KvasirError('invalid_request', `${field} cannot be used like this`, { field, value, allowed });
  };
  const { context } = model.info;
  for (const length of plan.lengths)
    if (!(Number.isInteger(length) && length >= 1 && length < context))
      refuse('lengths', length, `whole numbers below ${context}, the context of the model`);
  if (plan.tasks.length === 0) refuse('tasks', plan.tasks, 'at least one task');
  if (plan.modes.length === 0) refuse('modes', plan.modes, 'at least one mode');
  if (plan.lengths.length === 0) refuse('lengths', plan.lengths, 'at least one length');
  if (plan.caches.length === 0) refuse('caches', plan.caches, 'at least one cache setting');
  if (!(Number.isInteger(plan.n) && plan.n >= 1)) refuse('n', plan.n, 'at least 1');
  if (plan.ownAnswers && plan.write === 'none')
    refuse('write', plan.write, 'all or able, where answers are to be the own ones');
}
