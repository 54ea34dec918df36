import type { CacheSequence } from '../cache/sequence.ts';
import type { FormatName } from '../cache/types.ts';
import { KvasirError } from '../errors.ts';
import { epicache } from '../methods/keep/epicache.ts';
import { type Episodes, episodesOf, evenPassages, route } from '../methods/keep/episodes.ts';
import { LayerPrefill } from './layer-prefill.ts';
import type { LoadedModel } from './loaded-model.ts';
import { Run } from './program/run.ts';
import { argmax } from './sampler.ts';
import { embedPassages } from './sense/passages.ts';
import type { LogitSink } from './work.ts';

/** Options of epicache; `episode` and `question` are not for the caller to choose here. */
export type EpisodeSettings = Omit<Parameters<typeof epicache.create>[0], 'episode' | 'question'>;

export interface EpisodeAnswer {
  readonly episode: number;
  /** Ids, the end token not among them. */
  readonly tokens: readonly number[];
}

/**
 * Several caches of one conversation, one for each of its topics (EpiCache, section 3): a question is answered from the cache of
 * the topic that it is nearest to. Questions leave nothing behind: they run on a fork. All caches stay in the arena.
 */
export class EpisodeCaches implements Disposable {
  readonly #model: LoadedModel;
  readonly #tokens: readonly number[];
  readonly #episodes: Episodes;
  readonly #sequences: readonly CacheSequence[];

  private constructor(
    model: LoadedModel,
    tokens: readonly number[],
    episodes: Episodes,
    sequences: readonly CacheSequence[],
  ) {
    this.#model = model;
    this.#tokens = tokens;
    this.#episodes = episodes;
    this.#sequences = sequences;
  }

  /**
   * Reads a conversation once for each of its topics.
   * @param tokens of the history
   * @param settings options of epicache; absent ones have their defaults
   */
  static async build(
    model: LoadedModel,
    tokens: readonly number[],
    settings: Partial<EpisodeSettings> = {},
    format: FormatName = 'f32',
  ): Promise<EpisodeCaches> {
    if (tokens.length === 0)
      throw new KvasirError('invalid_request', 'a conversation without tokens has no topics', {
        field: 'tokens',
        value: 0,
        allowed: 'at least one token',
      });
    const { segment, episodes: count } = epicache.options.parse(settings);
    const embeddings = await embedPassages(model.forward, tokens, evenPassages(tokens.length, segment));
    const episodes = episodesOf(embeddings, count);
    const sequences: CacheSequence[] = [];
    try {
      for (const episode of episodes.centroids.keys()) {
        const program = model.program([{ method: 'epicache', ...settings, episode }])!;
        const sequence = model.cache.create({ owner: 'episode', pages: program.pages(format) });
        sequences.push(sequence);
        const run = new Run(program, sequence, model.forward.recipes, 0);
        await prefill(model, sequence, tokens, 0, run);
      }
    } catch (error) {
      for (const sequence of sequences) sequence.free();
      throw error;
    }
    return new EpisodeCaches(model, tokens, episodes, sequences);
  }

  get count(): number {
    return this.#sequences.length;
  }

  /** By episode: bytes held. */
  get held(): number[] {
    return this.#sequences.map(sequence => sequence.stats().held);
  }

  /** The episode that a question is nearest to. */
  async route(question: readonly number[]): Promise<number> {
    const [embedding] = await embedPassages(this.#model.forward, question, [[0, question.length]]);
    return route(this.#episodes, embedding!);
  }

  /** Answers greedily from the episode that the question is nearest to, or a given one; the caches are then what they were. */
  async ask(question: readonly number[], maxTokens: number, episode?: number): Promise<EpisodeAnswer> {
    const chosen = episode ?? (await this.route(question));
    const { forward, tokenizer } = this.#model;
    const written: number[] = [];
    await this.force(chosen, question, async (logits, sequence) => {
      for (let next = argmax(logits); written.length < maxTokens && !tokenizer.endTokens.has(next); ) {
        written.push(next);
        if (written.length === maxTokens) break;
        const position = sequence.position;
        sequence.prepareAppend(1);
        const work = { sequence, tokens: [next], from: 0, rows: 1, position, logits: 'last' } as const;
        await forward.step([work], (_work, _row, values) => {
          next = argmax(values);
        });
      }
    });
    return { episode: chosen, tokens: written };
  }

  /**
   * Runs tokens on a fork of an episode's cache, which is gone when `use` has ended.
   * @param use logits of the last token, f32 [vocab], and the fork
   */
  async force<T>(
    episode: number,
    tokens: readonly number[],
    use: (logits: Float32Array, sequence: CacheSequence) => T | Promise<T>,
  ): Promise<T> {
    const kept = this.#sequences[episode];
    if (!kept || tokens.length === 0)
      throw new KvasirError('invalid_request', 'there is no such episode, or nothing is asked', {
        field: kept ? 'tokens' : 'episode',
        value: kept ? tokens.length : episode,
        allowed: kept ? 'at least one token' : `episodes 0 to ${this.count - 1}`,
      });
    const sequence = kept.fork();
    try {
      const all = [...this.#tokens, ...tokens];
      return await use(await prefill(this.#model, sequence, all, this.#tokens.length, null), sequence);
    } finally {
      sequence.free();
    }
  }

  [Symbol.dispose](): void {
    for (const sequence of this.#sequences) sequence.free();
  }
}

/** Logits of the last token. */
async function prefill(
  model: LoadedModel,
  sequence: CacheSequence,
  tokens: readonly number[],
  start: number,
  run: Run | null,
): Promise<Float32Array> {
  const prompt = new LayerPrefill(model.forward, sequence, tokens, start, run);
  let last = new Float32Array();
  const sink: LogitSink = (_work, _row, logits) => {
    last = logits.slice();
  };
  try {
    while (!(await prompt.next()));
    await prompt.finish('last', sink);
  } finally {
    prompt.dispose();
  }
  return last;
}
