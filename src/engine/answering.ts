import type { KvCache } from '../cache/cache.ts';
import type { Tokenizer } from '../model/types.ts';
import { Answer } from './answer.ts';
import type { Request } from './request.ts';
import { SamplerScratch } from './sampler.ts';
import type { Usage } from './types.ts';

/** From logits to what a request's reader sees: its answers begin, go on by a token, and end with the usage. */
export class Answering {
  readonly #cache: KvCache;
  readonly #tokenizer: Tokenizer;
  readonly #scratch: SamplerScratch;

  constructor(cache: KvCache, tokenizer: Tokenizer, vocab: number) {
    this.#cache = cache;
    this.#tokenizer = tokenizer;
    this.#scratch = new SamplerScratch(vocab);
  }

  /** The prompt has been run: n answers start from its cache and its last logits. */
  start(request: Request, logits: Float32Array): void {
    const n = request.options.n ?? 1;
    const kept = n > 1 ? logits.slice() : logits;
    request.firstToken();
    // A fork has no part in a promise: each answer gets its own.
    if (n > 1) request.sequence!.reserve(0);
    for (let index = 0; index < n; index++) {
      const own = index === n - 1;
      const sequence = own ? request.sequence! : request.sequence!.fork();
      const run = own ? request.run : (request.run?.fork(sequence, request.seed + index) ?? null);
      const answer = new Answer({
        index,
        sequence,
        run,
        options: request.options,
        maxTokens: request.maxTokens,
        seed: request.seed + index,
        prompt: request.prompt,
        tokenizer: this.#tokenizer,
        scratch: this.#scratch,
      });
      request.answers.push(answer);
    }
    request.sequence = null;
    if (n > 1 && !request.unpromised) for (const { sequence } of request.answers) sequence.reserve(request.maxTokens);
    if (request.options.progress)
      request.parts.push({ index: 0, text: '', tokens: [], prompt: { fraction: 1, cache: this.#held(request) } });
    for (const answer of request.answers) {
      if (n > 1) logits.set(kept);
      this.advance(request, answer, logits);
    }
  }

  /** The next token of an answer, from the logits after its last one (changed in place). */
  advance(request: Request, answer: Answer, logits: Float32Array): void {
    const part = answer.advance(logits);
    const ended = answer.finish && request.answers.every(a => a.finish);
    request.parts.push(ended ? { ...part, usage: request.usage(this.#held(request)) } : part);
  }

  /** What the answers' caches hold together: they are forks of one prompt. */
  #held(request: Request): Usage['cache'] {
    const sequences = request.answers.map(({ sequence }) => sequence);
    const { held, parked, bytes: items } = this.#cache.measure(sequences);
    const stats = sequences.map(sequence => sequence.stats());
    const views = stats.flatMap(({ tokens }) => [...tokens]);
    return {
      format: sequences[0]!.options.pages.formatK,
      recipe: request.recipe,
      kept: views.reduce((sum, entries) => sum + entries, 0) / views.length,
      bytes: held,
      items,
      parked,
      peak: Math.max(held, ...stats.map(({ peak }) => peak)),
    };
  }
}
