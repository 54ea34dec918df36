import type { LoadedModel } from '../../engine/loaded-model.ts';
import { argmax, logSumExp } from '../../engine/sampler.ts';
import { type CacheSetting, FULL } from '../cache-setting.ts';
import { Feed, type Pause } from '../feed.ts';

export interface DivergenceResult {
  /** Places compared. */
  readonly count: number;
  /** Share of places where both have the same likeliest token. */
  readonly agreement: number;
  /** Mean KL divergence of the measured from the reference distribution, KL(reference || measured), nats. */
  readonly kl: number;
  /** Greatest difference of two logits of the same token at the same place. */
  readonly logitError: number;
}

/** How far distributions of the next token lie from their references: add pairs of logits, then read the result. */
export class Divergence {
  #count = 0;
  #same = 0;
  #kl = 0;
  #error = 0;

  /** Logits [vocab] at the same place; neither is kept. */
  add(reference: Float32Array, measured: Float32Array): void {
    this.#count++;
    if (argmax(reference) === argmax(measured)) this.#same++;
    const [p, q] = [logSumExp(reference), logSumExp(measured)];
    let kl = 0;
    for (let id = 0; id < reference.length; id++) {
      const [a, b] = [reference[id]!, measured[id]!];
      kl += Math.exp(a - p) * (a - p - (b - q));
      const error = Math.abs(a - b);
      if (error > this.#error) this.#error = error;
    }
    this.#kl += kl;
  }

  /** Adds the places of another. */
  join(other: Divergence): void {
    this.#count += other.#count;
    this.#same += other.#same;
    this.#kl += other.#kl;
    this.#error = Math.max(this.#error, other.#error);
  }

  result(): DivergenceResult {
    const { agreement, kl } = { agreement: this.#same / this.#count, kl: this.#kl / this.#count };
    return { count: this.#count, agreement, kl, logitError: this.#error };
  }
}

/**
 * Forces the same tokens through the full f32 cache and through `setting`, tile by tile side by side, and compares the
 * predictions from the first token after `prompt` on (an empty prompt: after the first token).
 */
export async function divergence(
  model: LoadedModel,
  setting: CacheSetting,
  prompt: readonly number[],
  continuation: readonly number[],
  into = new Divergence(),
  pause?: Pause,
): Promise<Divergence> {
  using reference = new Feed(model, FULL, pause);
  using measured = new Feed(model, setting, pause);
  const compare = async (
    run: (feed: Feed, sink: (position: number, logits: Float32Array) => void) => Promise<void>,
  ) => {
    const truth = new Map<number, Float32Array>();
    await run(reference, (position, logits) => void truth.set(position, logits.slice()));
    await run(measured, (position, logits) => into.add(truth.get(position)!, logits));
  };
  if (prompt.length > 0) await compare((feed, sink) => feed.prompt(prompt, 'last', sink));
  const { tile } = model.forward.workspace;
  // The last token's prediction is of nothing that was given.
  for (let from = 0; from < continuation.length - 1; from += tile) {
    const tokens = continuation.slice(from, Math.min(from + tile, continuation.length - 1));
    await compare((feed, sink) => feed.push(tokens, 'all', sink));
  }
  return into;
}
