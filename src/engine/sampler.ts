import { Random } from './random.ts';
import type { SamplingOptions } from './types.ts';

/**
 * Chooses tokens from logits. Order: logit bias, penalties, temperature, top-k, top-p, min-p. Buffers are made once per
 * vocabulary and shared by all samplers of a model (`SamplerScratch`), so that a step allocates nothing.
 */
export class Sampler {
  readonly #options: Required<Omit<SamplingOptions, 'logitBias' | 'seed'>>;
  readonly #bias: readonly (readonly [id: number, bias: number])[];
  readonly #random: Random;
  readonly #scratch: SamplerScratch;
  /** How often each token was generated, and which ones stand in prompt or answer (for the repetition penalty). */
  readonly #generated = new Map<number, number>();
  readonly #seen: Set<number> | null;

  constructor(options: SamplingOptions, seed: number, prompt: Iterable<number>, scratch: SamplerScratch) {
    this.#options = {
      temperature: options.temperature ?? 1,
      topK: options.topK ?? 0,
      topP: options.topP ?? 1,
      minP: options.minP ?? 0,
      repetitionPenalty: options.repetitionPenalty ?? 1,
      frequencyPenalty: options.frequencyPenalty ?? 0,
      presencePenalty: options.presencePenalty ?? 0,
    };
    this.#bias = Object.entries(options.logitBias ?? {}).map(([id, bias]) => [Number(id), bias] as const);
    this.#random = new Random(seed);
    this.#scratch = scratch;
    this.#seen = this.#options.repetitionPenalty === 1 ? null : new Set(prompt);
  }

  /** Index of the next token; `logits` [vocab] is changed in place. */
  sample(logits: Float32Array): number {
    this.#adjust(logits);
    const { temperature, topK, topP, minP } = this.#options;
    const token = temperature === 0 ? argmax(logits) : this.#draw(logits, temperature, topK, topP, minP);
    this.#generated.set(token, (this.#generated.get(token) ?? 0) + 1);
    this.#seen?.add(token);
    return token;
  }

  #adjust(logits: Float32Array): void {
    const { repetitionPenalty, frequencyPenalty, presencePenalty } = this.#options;
    for (const [id, bias] of this.#bias) logits[id]! += bias;
    if (this.#seen)
      for (const id of this.#seen) logits[id]! *= logits[id]! > 0 ? 1 / repetitionPenalty : repetitionPenalty;
    if (frequencyPenalty !== 0 || presencePenalty !== 0)
      for (const [id, count] of this.#generated) logits[id]! -= frequencyPenalty * count + presencePenalty;
  }

  #draw(logits: Float32Array, temperature: number, topK: number, topP: number, minP: number): number {
    const scratch = this.#scratch;
    const best = logits[argmax(logits)]!;
    // Tokens 30 nats below the best have no share that a 53-bit draw could hit.
    const floor = Math.max(minP > 0 ? Math.log(minP) : -30, -30) * temperature + best;
    let count = 0;
    for (let id = 0; id < logits.length; id++) if (logits[id]! >= floor) scratch.ids[count++] = id;
    const ids = scratch.ids;
    if (topK > 0 || topP < 1) {
      ids.subarray(0, count).sort((a, b) => logits[b]! - logits[a]! || a - b);
      if (topK > 0) count = Math.min(count, topK);
    }
    let total = 0;
    for (let i = 0; i < count; i++) total += scratch.weights[i] = Math.exp((logits[ids[i]!]! - best) / temperature);
    if (topP < 1) {
      let mass = 0;
      let keep = 0;
      while (keep < count && mass < topP * total) mass += scratch.weights[keep++]!;
      count = Math.max(1, keep);
      total = mass;
    }
    let target = this.#random.next() * total;
    for (let i = 0; i < count; i++) {
      target -= scratch.weights[i]!;
      if (target < 0) return ids[i]!;
    }
    return ids[count - 1]!;
  }
}

export class SamplerScratch {
  readonly ids: Int32Array;
  readonly weights: Float64Array;

  constructor(vocab: number) {
    this.ids = new Int32Array(vocab);
    this.weights = new Float64Array(vocab);
  }
}

/** The first index of the greatest value. */
export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** log(sum(exp(values))), in float64. */
export function logSumExp(values: Float32Array): number {
  const best = values[argmax(values)]!;
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Math.exp(values[i]! - best);
  return best + Math.log(sum);
}

/** The `count` most likely tokens with natural-log probabilities, best first, ties by id. */
export function topLogprobs(logits: Float32Array, count: number): { token: number; logprob: number }[] {
  if (count === 0) return [];
  const normaliser = logSumExp(logits);
  const top: number[] = [];
  for (let id = 0; id < logits.length; id++) {
    if (top.length === count && logits[id]! <= logits[top[count - 1]!]!) continue;
    let at = top.length;
    while (at > 0 && logits[top[at - 1]!]! < logits[id]!) at--;
    top.splice(at, 0, id);
    if (top.length > count) top.pop();
  }
  return top.map(token => ({ token, logprob: logits[token]! - normaliser }));
}
