import type { LoadedModel } from '../../engine/loaded-model.ts';
import { KvasirError } from '../../errors.ts';
import { type CacheSetting, cacheSetting, FULL } from '../cache-setting.ts';
import { Feed, type Pause } from '../feed.ts';
import { Divergence } from '../meters/divergence.ts';
import { PromptForks } from '../prompt-forks.ts';

/** What a recipe holds, the mean over windows of text; and what it loses, over all forced tokens. */
export interface Measured {
  readonly recipe: string;
  /** The most bytes from the end of the prompt to that of the forced tokens, as the allocator counts. */
  readonly held: number;
  readonly agreement: number;
  readonly kl: number;
}

/** A prompt and the tokens that are forced after it. */
export interface Stretch {
  readonly tokens: readonly number[];
  /** How many at the end are forced. */
  readonly steps: number;
}

interface Window extends Stretch {
  /** Whether its bytes count: prompts of tasks are of other lengths. */
  readonly counts: boolean;
  readonly truth: readonly Float32Array[];
}

interface WindowResult {
  readonly sum: Divergence;
  /** The most bytes. */
  readonly most: number;
}

/** Share of the cache's limit that prompts kept for forks may take. */
const FORKS_SHARE = 0.5;
/** Forced tokens between two looks at the bytes. */
const STRIDE = 16;

/** Measures recipes on windows of a text, each recipe once: forced decoding of their last tokens against the full f32 cache. */
export class Evaluator implements Disposable {
  readonly #model: LoadedModel;
  readonly #windows: readonly Window[];
  readonly #pause: Pause | undefined;
  readonly #known = new Map<string, Measured>();
  /** By window and recipe. */
  readonly #results = new Map<string, WindowResult>();
  /** Prompts that have been read, by window and what they were read under, the longest unused first. */
  readonly #forks = new Map<string, PromptForks>();

  private constructor(model: LoadedModel, windows: readonly Window[], pause?: Pause) {
    this.#model = model;
    this.#windows = windows;
    this.#pause = pause;
  }

  /**
   * @param text token lists, each longer than `steps`
   * @param tasks prompts with their answers: they count in what is lost
   */
  static async open(
    model: LoadedModel,
    text: readonly (readonly number[])[],
    steps: number,
    { tasks = [], pause }: { readonly tasks?: readonly Stretch[]; readonly pause?: Pause } = {},
  ): Promise<Evaluator> {
    const windows: Window[] = [];
    for (const stretch of [...text.map(tokens => ({ tokens, steps, counts: true })), ...tasks]) {
      const truth: Float32Array[] = [];
      await feedWindow(model, FULL, stretch, (_, logits) => void truth.push(logits.slice()), pause);
      windows.push({ counts: false, ...stretch, truth });
    }
    return new Evaluator(model, windows, pause);
  }

  get all(): readonly Measured[] {
    return [...this.#known.values()];
  }

  async measure(recipe: string): Promise<Measured> {
    const setting = cacheSetting(recipe);
    let known = this.#known.get(setting.name);
    if (!known) {
      known = await this.#over(this.#windows.keys(), setting);
      this.#known.set(setting.name, known);
    }
    return known;
  }

  /** The same of the first window of text alone: what a recipe holds is nearly the same in all of them. */
  look(recipe: string): Promise<Measured> {
    return this.#over([0], cacheSetting(recipe));
  }

  async #over(windows: Iterable<number>, setting: CacheSetting): Promise<Measured> {
    const sum = new Divergence();
    let [held, counted] = [0, 0];
    for (const window of windows) {
      const one = await this.#window(window, setting);
      sum.join(one.sum);
      if (!this.#windows[window]!.counts) continue;
      held += one.most;
      counted++;
    }
    const { agreement, kl } = sum.result();
    return { recipe: setting.kv ? setting.name : 'full', held: held / counted, agreement, kl };
  }

  async #window(index: number, setting: CacheSetting): Promise<WindowResult> {
    const key = `${index} ${setting.name}`;
    const known = this.#results.get(key);
    if (known) return known;
    const window = this.#windows[index]!;
    const sum = new Divergence();
    const compare = (at: number, logits: Float32Array) => sum.add(window.truth[at]!, logits);
    const forks = await this.#forksOf(setting, index, window);
    const most = forks
      ? await forkWindow(forks, setting, window, compare)
      : await feedWindow(this.#model, setting, window, compare, this.#pause);
    const result = { sum, most };
    this.#results.set(key, result);
    return result;
  }

  async #forksOf(setting: CacheSetting, window: number, { tokens, steps }: Stretch): Promise<PromptForks | null> {
    const name = PromptForks.nameOf(this.#model, setting);
    if (name === null) return null;
    const key = `${window} ${name}`;
    let forks = this.#forks.get(key);
    this.#forks.delete(key);
    if (!forks) {
      this.#makeRoom();
      forks = await PromptForks.read(this.#model, setting, tokens.slice(0, -steps), this.#pause);
    }
    this.#forks.set(key, forks);
    return forks;
  }

  #makeRoom(): void {
    for (const [key, forks] of this.#forks) {
      const { held, limit } = this.#model.cache.stats();
      if (held <= limit * FORKS_SHARE) return;
      forks[Symbol.dispose]();
      this.#forks.delete(key);
    }
  }

  /** Frees the prompts that were kept. */
  [Symbol.dispose](): void {
    for (const forks of this.#forks.values()) forks[Symbol.dispose]();
    this.#forks.clear();
  }
}

/** @returns the most bytes held */
async function forkWindow(
  forks: PromptForks,
  setting: CacheSetting,
  { tokens, steps }: Stretch,
  sink: (at: number, logits: Float32Array) => void,
): Promise<number> {
  const first = tokens.length - steps - 1;
  sink(0, forks.last);
  const forced = tokens.slice(-steps, -1);
  return (await forks.force(setting, forced, (position, logits) => sink(position - first, logits))).most;
}

/** @returns the most bytes held, bytes parked included */
async function feedWindow(
  model: LoadedModel,
  setting: CacheSetting,
  { tokens, steps }: Stretch,
  sink: (at: number, logits: Float32Array) => void,
  pause?: Pause,
): Promise<number> {
  using feed = new Feed(model, setting, pause);
  const first = tokens.length - steps - 1;
  const take = (position: number, logits: Float32Array) => sink(position - first, logits);
  await feed.prompt(tokens.slice(0, -steps), 'last', take);
  const bytes = () => {
    const { held, parked } = feed.stats();
    return held + parked;
  };
  let most = bytes();
  // Pages fill and are encoded on the way: between two encodings a cache is at its greatest.
  for (let from = -steps; from < -1; from += STRIDE) {
    await feed.push(tokens.slice(from, Math.min(from + STRIDE, -1)), 'all', take);
    most = Math.max(most, bytes());
  }
  return most;
}

/**
 * Windows of `length` tokens, evenly spread over a text, which do not overlap: `most`, or as many as there is room for.
 * @throws KvasirError `invalid_request` where there is room for none
 */
export function windowsIn(tokens: readonly number[], length: number, most: number, what = 'text'): number[][] {
  const count = Math.min(most, Math.floor(tokens.length / length));
  if (count === 0)
    throw new KvasirError('invalid_request', `the ${what} is too short for a window of ${length} tokens`, {
      field: 'text',
      value: `${tokens.length} tokens`,
      allowed: `at least ${length} tokens, or a shorter prompt`,
    });
  const stride = count > 1 ? Math.floor((tokens.length - length) / (count - 1)) : 0;
  return Array.from({ length: count }, (_, i) => tokens.slice(i * stride, i * stride + length));
}
