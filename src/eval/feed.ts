import type { CacheSequence } from '../cache/sequence.ts';
import type { SequenceStats } from '../cache/types.ts';
import { LayerPrefill } from '../engine/layer-prefill.ts';
import type { LoadedModel } from '../engine/loaded-model.ts';
import { type CacheSetting, openSequence } from './cache-setting.ts';

/** Logits [vocab] after the token at `position`; valid during the call. */
export type Sink = (position: number, logits: Float32Array) => void;

/** Called between tiles: lets other events in; raises to stop. */
export type Pause = () => Promise<void>;

/** A sequence that is fed given tokens, under a cache setting: the prompt, then whatever is forced after it. */
export class Feed implements Disposable {
  readonly #model: LoadedModel;
  readonly #setting: CacheSetting;
  readonly #sequence: CacheSequence;
  readonly #pause: Pause;
  readonly #tokens: number[];

  constructor(model: LoadedModel, setting: CacheSetting, pause: Pause = async () => {}, from?: Feed) {
    this.#model = model;
    this.#setting = setting;
    this.#pause = pause;
    this.#sequence = from ? from.#sequence.fork() : openSequence(model, setting);
    this.#tokens = from ? [...from.#tokens] : [];
  }

  /** Tokens fed so far. */
  get length(): number {
    return this.#tokens.length;
  }

  /** The prompt, in the setting's order; logits of its last token, or of all. */
  async prompt(tokens: readonly number[], logits: 'last' | 'all', sink: Sink): Promise<void> {
    if (this.#setting.prefill === 'token' || this.length > 0) return this.push(tokens, logits, sink);
    this.#tokens.push(...tokens);
    this.#sequence.reserve(tokens.length);
    const prefill = new LayerPrefill(this.#model.forward, this.#sequence, this.#tokens, 0);
    try {
      do await this.#pause();
      while (!(await prefill.next()));
      await prefill.finish(logits, (work, row, values) => sink(work.position + row, values));
    } finally {
      prefill.dispose();
    }
  }

  /** More tokens, in tiles. */
  async push(tokens: readonly number[], logits: 'last' | 'all', sink: Sink): Promise<void> {
    const { forward } = this.#model;
    const begin = this.length;
    this.#tokens.push(...tokens);
    for (let from = begin; from < this.length; from += forward.workspace.tile) {
      await this.#pause();
      const rows = Math.min(forward.workspace.tile, this.length - from);
      const wanted = logits === 'all' ? 'all' : from + rows === this.length ? 'last' : 'none';
      this.#sequence.prepareAppend(rows);
      const work = {
        sequence: this.#sequence,
        tokens: this.#tokens,
        from,
        rows,
        position: from,
        logits: wanted,
      } as const;
      await forward.step([work], (done, row, values) => sink(done.position + row, values));
    }
  }

  /** The same content in a feed of its own; pages are shared until one writes. */
  fork(): Feed {
    return new Feed(this.#model, this.#setting, this.#pause, this);
  }

  stats(): SequenceStats {
    return this.#sequence.stats();
  }

  [Symbol.dispose](): void {
    this.#sequence.free();
  }
}
