import type { LoadedModel } from '../../engine/loaded-model.ts';
import { argmax } from '../../engine/sampler.ts';
import type { CacheSetting } from '../cache-setting.ts';
import { Feed, type Pause } from '../feed.ts';
import type { EncodedSession } from './encode.ts';

export const MODES = ['multi-turn', 'multi-request'] as const;
/**
 * multi-turn: one conversation, each question on the cache that the turns before it left. multi-request: the context is run
 * alone, once; every question starts from its cache, and what it adds is dropped.
 */
export type Mode = (typeof MODES)[number];

/** Forced tokens of an answer: enough to compare by, whatever the reference's length. */
const MOST_FORCED = 64;

/** What an answer in the cache of a later turn is: the reference, what the model wrote, or the same as in another play. */
export type Transcript = 'reference' | 'own' | readonly (readonly number[])[];

export interface PlayOptions {
  readonly mode: Mode;
  readonly transcript: Transcript;
  /** Most tokens to write, by turn; 0: nothing is written. */
  readonly write: readonly number[];
  readonly pause?: Pause;
}

export interface PlayedTurn {
  /** [vocab] before each of the first reference tokens, forced. */
  readonly logits: readonly Float32Array[];
  /** Tokens written greedily, without their end. */
  readonly written: readonly number[];
  /** From the question (and, in a conversation, the last answer) to the first logits of the answer. */
  readonly firstTokenMs: number;
  /** Tokens whose entries, or what the recipe left of them, stood in the cache; tokens that were run. */
  readonly reused: number;
  readonly run: number;
  /** Bytes of the cache with the question read, and entries a view. */
  readonly held: number;
  readonly kept: number;
  /** Bytes brought back from outside of the cache while the answer was forced, a token. */
  readonly fetched: number;
}

export interface Played {
  readonly turns: readonly PlayedTurn[];
  /** The shared context: in a conversation with the first question behind it. */
  readonly context: {
    readonly tokens: number;
    readonly prefillMs: number;
    /** Of these: the recipe's signals, decisions and actions. */
    readonly recipeMs: number;
    readonly held: number;
    readonly kept: number;
    /** The most held until the last turn. */
    readonly peak: number;
    readonly parked: number;
  };
}

/** Looks at the shared context's cache before the first request and after each one. */
export type Inspect = (context: Feed) => void;

/** Plays a session under a setting of the cache. */
export async function play(
  model: LoadedModel,
  setting: CacheSetting,
  session: EncodedSession,
  options: PlayOptions,
  inspect: Inspect = () => {},
): Promise<Played> {
  using shared = new Shared(new Feed(model, setting, options.pause));
  let context: Played['context'] | null = null;
  if (options.mode === 'multi-request') {
    const begin = performance.now();
    await shared.feed.prompt(session.context, 'last', () => {});
    context = contextOf(shared.feed, performance.now() - begin);
    inspect(shared.feed);
  }
  const turns: PlayedTurn[] = [];
  let peak = 0;
  let pending: readonly number[] = session.context;
  for (const [i, { alone, inTurn, reference }] of session.turns.entries()) {
    const forced = session.end === null ? reference : [...reference, session.end];
    const answer = { forced: forced.slice(0, MOST_FORCED), most: options.write[i]! };
    if (options.mode === 'multi-request') {
      using request = shared.feed.fork();
      const { turn } = await ask(model, request, alone, answer);
      peak = Math.max(peak, request.stats().peak);
      turns.push(turn);
      inspect(shared.feed);
      continue;
    }
    const { turn, writer } = await ask(
      model,
      shared.feed,
      [...pending, ...inTurn],
      answer,
      options.transcript === 'own',
    );
    context ??= contextOf(shared.feed, turn.firstTokenMs);
    turns.push(turn);
    const end = session.end === null ? [] : [session.end];
    if (writer) {
      shared.replace(writer);
      pending = end;
    } else pending = [...answerOf(options.transcript, i, reference), ...end];
  }
  peak = Math.max(peak, shared.feed.stats().peak);
  return { turns, context: { ...context!, peak } };
}

/** A feed that gives way to another. */
class Shared implements Disposable {
  feed: Feed;

  constructor(feed: Feed) {
    this.feed = feed;
  }

  replace(feed: Feed): void {
    this.feed[Symbol.dispose]();
    this.feed = feed;
  }

  [Symbol.dispose](): void {
    this.feed[Symbol.dispose]();
  }
}

const answerOf = (transcript: Transcript, turn: number, reference: readonly number[]): readonly number[] =>
  typeof transcript === 'string' ? reference : transcript[turn]!;

function contextOf(feed: Feed, prefillMs: number): Omit<Played['context'], 'peak'> & { peak: number } {
  const { held, parked, peak } = feed.stats();
  return { tokens: feed.length, prefillMs, recipeMs: feed.recipeMs, held, parked, peak, kept: keptOf(feed) };
}

function keptOf(feed: Feed): number {
  const { tokens } = feed.stats();
  return tokens.reduce((sum, entries) => sum + entries, 0) / tokens.length;
}

/**
 * One question: its tokens, then the reference answer forced on one fork and an answer written on another; the feed itself
 * is left with the question read.
 * @param keepWriter hand out the fork with the written answer instead of dropping it
 */
async function ask(
  model: LoadedModel,
  feed: Feed,
  prompt: readonly number[],
  answer: { readonly forced: readonly number[]; readonly most: number },
  keepWriter = false,
): Promise<{ turn: PlayedTurn; writer: Feed | null }> {
  const reused = feed.length;
  const begin = performance.now();
  const logits: Float32Array[] = [];
  await feed.prompt(prompt, 'last', (_, values) => void logits.push(values.slice()));
  const firstTokenMs = performance.now() - begin;
  const [{ held }, kept] = [feed.stats(), keptOf(feed)];

  let fetched = 0;
  {
    using forced = feed.fork();
    await forced.push(answer.forced.slice(0, -1), 'all', (_, values) => void logits.push(values.slice()));
    fetched = forced.stats().fetched / Math.max(1, answer.forced.length - 1);
  }
  const written: number[] = [];
  const writer = feed.fork();
  try {
    const { endTokens } = model.tokenizer;
    for (let next = argmax(logits[0]!); written.length < answer.most && !endTokens.has(next); ) {
      written.push(next);
      await writer.push([next], 'last', (_, values) => {
        next = argmax(values);
      });
    }
  } catch (error) {
    writer[Symbol.dispose]();
    throw error;
  }
  if (!keepWriter) writer[Symbol.dispose]();
  const turn = { logits, written, firstTokenMs, reused, run: prompt.length, held, kept, fetched };
  return { turn, writer: keepWriter ? writer : null };
}
