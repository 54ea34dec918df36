import type { CacheSequence } from '../cache/sequence.ts';
import type { SequenceStats } from '../cache/types.ts';
import { LayerPrefill } from '../engine/layer-prefill.ts';
import type { LoadedModel } from '../engine/loaded-model.ts';
import { type CacheSetting, openSequence } from './cache-setting.ts';
import { force } from './force.ts';
import type { TimedRun } from './timed-run.ts';

/** Logits [vocab] after the token at `position`; valid during the call. */
export type Sink = (position: number, logits: Float32Array) => void;

/** Called between tiles: lets other events in; raises to stop. */
export type Pause = () => Promise<void>;

/** A sequence that is fed given tokens, under a cache setting: the prompt, then whatever is forced after it. */
export class Feed implements Disposable {
  readonly #model: LoadedModel;
  readonly #setting: CacheSetting;
  readonly #sequence: CacheSequence;
  readonly #run: TimedRun | null;
  readonly #pause: Pause;
  readonly #tokens: number[];

  constructor(model: LoadedModel, setting: CacheSetting, pause: Pause = async () => {}, from?: Feed) {
    this.#model = model;
    this.#setting = setting;
    this.#pause = pause;
    const opened = from ? from.#forkSequence() : openSequence(model, setting);
    this.#sequence = opened.sequence;
    this.#run = opened.run;
    this.#tokens = from ? [...from.#tokens] : [];
  }

  /** Tokens fed so far. */
  get length(): number {
    return this.#tokens.length;
  }

  /** The prompt (of a turn), in the setting's order; logits of its last token, or of all. */
  async prompt(tokens: readonly number[], logits: 'last' | 'all', sink: Sink): Promise<void> {
    if (!this.#run && (this.#setting.prefill === 'token' || this.length > 0)) return this.push(tokens, logits, sink);
    const begin = this.length;
    this.#tokens.push(...tokens);
    if (!this.#run) this.#sequence.reserve(tokens.length);
    const prefill = new LayerPrefill(this.#model.forward, this.#sequence, this.#tokens, begin, this.#run);
    try {
      do await this.#pause();
      while (!(await prefill.next()));
      await prefill.finish(logits, (work, row, values) => sink(work.position + row, values));
    } finally {
      prefill.dispose();
    }
  }

  /** More tokens, as if they had been written. */
  async push(tokens: readonly number[], logits: 'last' | 'all', sink: Sink): Promise<void> {
    const from = this.length;
    this.#tokens.push(...tokens);
    const { forward } = this.#model;
    const work = { forward, sequence: this.#sequence, run: this.#run, tokens: this.#tokens, pause: this.#pause };
    await force({ ...work, from, logits }, sink);
  }

  /** The same content in a feed of its own; pages are shared until one writes. */
  fork(): Feed {
    return new Feed(this.#model, this.#setting, this.#pause, this);
  }

  #forkSequence(): { sequence: CacheSequence; run: TimedRun | null } {
    const sequence = this.#sequence.fork();
    return { sequence, run: this.#run?.fork(sequence, 0) ?? null };
  }

  /** Milliseconds that the recipe's decisions about prompts have taken, those of forks included. */
  get recipeMs(): number {
    return this.#run?.spent.promptMs ?? 0;
  }

  /** To look at what the cache holds. */
  get sequence(): CacheSequence {
    return this.#sequence;
  }

  stats(): SequenceStats {
    return this.#sequence.stats();
  }

  [Symbol.dispose](): void {
    this.#sequence.free();
  }
}
