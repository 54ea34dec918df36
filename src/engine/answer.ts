import type { CacheSequence } from '../cache/sequence.ts';
import { IncrementalDetokenizer } from '../model/incremental.ts';
import type { Tokenizer } from '../model/types.ts';
import type { Run } from './program/run.ts';
import { logSumExp, Sampler, type SamplerScratch, topLogprobs } from './sampler.ts';
import { StopMatcher } from './stop.ts';
import type { FinishReason, GenerateOptions, GeneratePart, TokenLogprob } from './types.ts';

/** One of the n answers of a request: its cache, its tokens, its text so far. */
export class Answer {
  readonly index: number;
  readonly tokens: number[] = [];
  sequence: CacheSequence;
  /** The recipe at work on it; null: the full cache. */
  readonly run: Run | null;
  finish: FinishReason | null = null;
  readonly #options: GenerateOptions;
  readonly #maxTokens: number;
  readonly #tokenizer: Tokenizer;
  readonly #sampler: Sampler;
  readonly #text: IncrementalDetokenizer;
  readonly #stop: StopMatcher;

  constructor(init: {
    index: number;
    sequence: CacheSequence;
    run: Run | null;
    options: GenerateOptions;
    maxTokens: number;
    seed: number;
    prompt: readonly number[];
    tokenizer: Tokenizer;
    scratch: SamplerScratch;
  }) {
    this.index = init.index;
    this.sequence = init.sequence;
    this.run = init.run;
    this.#options = init.options;
    this.#maxTokens = init.maxTokens;
    this.#tokenizer = init.tokenizer;
    this.#sampler = new Sampler(init.options, init.seed, init.prompt, init.scratch);
    this.#text = new IncrementalDetokenizer(init.tokenizer);
    this.#stop = new StopMatcher(init.options.stop ?? []);
  }

  /** Takes the logits after the last token (changed in place), chooses the next token and gives what can be shown of it. */
  advance(logits: Float32Array): GeneratePart {
    const count = this.#options.logprobs;
    // Log-probabilities are the model's own: taken before bias, penalties and temperature.
    const top = count === undefined ? null : topLogprobs(logits, count);
    const normaliser = top === null ? 0 : logSumExp(logits);
    const raw = top === null ? null : this.#rawLogits(logits);
    const token = this.#sampler.sample(logits);
    this.tokens.push(token);
    const logprob = raw === null ? 0 : raw(token) - normaliser;

    let text = '';
    const isEnd = !this.#options.ignoreEnd && this.#tokenizer.endTokens.has(token);
    if (!isEnd) text = this.#stop.push(this.#text.push(token));
    if (isEnd || this.#stop.stopped) this.finish = 'stop';
    else if (this.tokens.length >= this.#maxTokens) this.finish = 'length';
    if (this.finish) text += this.#stop.push(this.#text.flush()) + this.#stop.flush();
    if (this.finish === 'length' && this.#stop.stopped) this.finish = 'stop';
    return {
      index: this.index,
      text,
      tokens: [token],
      ...(top && {
        logprobs: [{ ...this.#describe(token, logprob), top: top.map(t => this.#describe(t.token, t.logprob)) }],
      }),
      ...(this.finish && { finishReason: this.finish }),
    };
  }

  /** Greedy decoding without bias or penalty leaves logits as they are; else the chosen token's value must be kept apart. */
  #rawLogits(logits: Float32Array): (token: number) => number {
    const copy = logits.slice();
    return token => copy[token]!;
  }

  #describe(token: number, logprob: number): Omit<TokenLogprob, 'top'> {
    const bytes = [...this.#tokenizer.bytes(token)];
    return { token, text: this.#tokenizer.decode([token], { special: true }), bytes, logprob };
  }
}
