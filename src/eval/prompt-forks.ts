import type { CacheSequence } from '../cache/sequence.ts';
import { LayerPrefill } from '../engine/layer-prefill.ts';
import type { LoadedModel } from '../engine/loaded-model.ts';
import { Program } from '../engine/program/program.ts';
import { Run } from '../engine/program/run.ts';
import { findMethod } from '../methods/index.ts';
import { formatRecipe } from '../methods/recipe.ts';
import type { CacheSetting } from './cache-setting.ts';
import type { Pause, Sink } from './feed.ts';
import { force } from './force.ts';

/** What a fork held when its prompt had been encoded, and the most from then on. */
export interface ForkBytes {
  readonly held: number;
  readonly most: number;
}

/**
 * A prompt that is read once, for many ways to encode what is left of it: prompts attend to exact rows, so that a method of the
 * stage `encode` that asks for no signals finds the same rows on a fork, afterwards, as it would have found layer by layer.
 * Forced tokens go in tiles that end where a page fills, which is when such methods act again. Predictions are those of `Feed`
 * under the whole recipe; bytes are up to half a per cent fewer, as lists of references have no room to grow; the peak is not known.
 */
export class PromptForks implements Disposable {
  readonly #model: LoadedModel;
  readonly #tokens: readonly number[];
  readonly #pause: Pause;
  readonly #sequence: CacheSequence;
  /** f32 [vocab]: after the last token of the prompt. */
  readonly last: Float32Array;

  private constructor(
    model: LoadedModel,
    tokens: readonly number[],
    pause: Pause,
    sequence: CacheSequence,
    last: Float32Array,
  ) {
    this.#model = model;
    this.#tokens = tokens;
    this.#pause = pause;
    this.#sequence = sequence;
    this.last = last;
  }

  /** Recipes of one name can be forked from one prompt; null where a recipe must read the prompt itself. */
  static nameOf(model: LoadedModel, setting: CacheSetting): string | null {
    const { kv = [], format } = setting;
    const program = kv.length > 0 ? model.program(kv) : null;
    if (!program || findMethod(kv.at(-1)!.method)!.traits.stage !== 'encode') return null;
    const policies = program.parts.map(({ policy }) => policy);
    const { sense, pages, step, retrieve, chunk } = policies.pop()!;
    if (sense ?? pages ?? step ?? retrieve ?? chunk) return null;
    const early = policies.every(p => !(p.filled ?? p.step ?? p.retrieve ?? p.settles ?? p.chunk));
    return early ? `${formatRecipe(kv.slice(0, -1))} @ ${format}` : null;
  }

  /** Reads a prompt under what stands before the recipe's encoding; every recipe with the same beginning can be forked from it. */
  static async read(
    model: LoadedModel,
    setting: CacheSetting,
    tokens: readonly number[],
    pause: Pause = async () => {},
  ): Promise<PromptForks> {
    const program = withInert(model, setting, 'last');
    const sequence = model.cache.create({ owner: 'eval', pages: program.pages(setting.format) });
    const run = new Run(program, sequence, model.forward.recipes, 0);
    const prefill = new LayerPrefill(model.forward, sequence, tokens, 0, run);
    let last: Float32Array | undefined;
    try {
      do await pause();
      while (!(await prefill.next()));
      await prefill.finish('last', (_, __, logits) => {
        last = logits.slice();
      });
    } catch (error) {
      sequence.free();
      throw error;
    } finally {
      prefill.dispose();
    }
    return new PromptForks(model, tokens, pause, sequence, last!);
  }

  /** Bytes of what was read, before any encoding. */
  get held(): number {
    return this.#sequence.stats().held;
  }

  /** Encodes as `setting` says, in a fork, and forces `tokens`; logits of each of them. Without tokens it only encodes. */
  async force(setting: CacheSetting, tokens: readonly number[] = [], sink: Sink = () => {}): Promise<ForkBytes> {
    const sequence = this.#sequence.fork();
    try {
      const run = new Run(withInert(this.#model, setting, 'others'), sequence, this.#model.forward.recipes, 0);
      this.#encode(run);
      const held = sequence.stats().held;
      let most = held;
      // Pages are whole from their first row on: between two encodings a cache is at its greatest.
      const onRows = () => {
        most = Math.max(most, sequence.stats().held);
      };
      const work = { forward: this.#model.forward, sequence, run, tokens: [...this.#tokens, ...tokens], onRows };
      await force({ ...work, from: this.#tokens.length, logits: 'all', pause: this.#pause }, sink);
      return { held, most };
    } finally {
      sequence.free();
    }
  }

  #encode(run: Run): void {
    const rows = this.#tokens.length;
    // Nobody asks for signals here: see `nameOf`.
    const nothing = { queries: null, hidden: { address: 0, rows: 0, position: () => 0 }, rows, last: true };
    for (let layer = 0; layer < this.#model.shape.layers; layer++) run.settle(layer, nothing);
    run.endPrompt();
  }

  [Symbol.dispose](): void {
    this.#sequence.free();
  }
}

/** The program of a recipe in which the last method, or all the others, do nothing. States have the places of the whole recipe. */
function withInert(model: LoadedModel, { kv }: CacheSetting, inert: 'last' | 'others'): Program {
  const whole = model.program(kv)!;
  const parts = whole.parts.map(({ name, policy }, i) => {
    const last = i === whole.parts.length - 1;
    return { name, policy: last === (inert === 'last') ? {} : policy };
  });
  return new Program(whole.text, parts, whole.model, whole.prefixStable);
}
