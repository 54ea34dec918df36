import type { LoadedModel } from '../../engine/loaded-model.ts';
import { cacheSetting, FULL } from '../cache-setting.ts';
import { Feed, type Pause } from '../feed.ts';
import { Divergence } from '../meters/divergence.ts';

/** What a recipe holds and loses: means over windows. */
export interface Measured {
  readonly recipe: string;
  /** Bytes after the prompt, as the allocator counts. */
  readonly held: number;
  readonly agreement: number;
  readonly kl: number;
}

interface Window {
  readonly tokens: readonly number[];
  readonly truth: readonly Float32Array[];
}

/** Measures recipes on windows of a text, each recipe once: forced decoding of the last `steps` tokens against the full f32 cache. */
export class Evaluator {
  readonly #model: LoadedModel;
  readonly #windows: readonly Window[];
  readonly #steps: number;
  readonly #pause: Pause | undefined;
  readonly #known = new Map<string, Measured>();
  /** Windows that have been run. */
  runs = 0;

  private constructor(model: LoadedModel, windows: readonly Window[], steps: number, pause?: Pause) {
    this.#model = model;
    this.#windows = windows;
    this.#steps = steps;
    this.#pause = pause;
  }

  /** @param windows token lists, each longer than `steps` */
  static async open(
    model: LoadedModel,
    windows: readonly (readonly number[])[],
    steps: number,
    pause?: Pause,
  ): Promise<Evaluator> {
    const opened: Window[] = [];
    for (const tokens of windows) {
      const truth: Float32Array[] = [];
      await feedWindow(model, FULL, tokens, steps, (_, logits) => void truth.push(logits.slice()), pause);
      opened.push({ tokens, truth });
    }
    return new Evaluator(model, opened, steps, pause);
  }

  get all(): readonly Measured[] {
    return [...this.#known.values()];
  }

  async measure(recipe: string): Promise<Measured> {
    const setting = cacheSetting(recipe);
    const known = this.#known.get(setting.name);
    if (known) return known;
    const sum = new Divergence();
    let held = 0;
    for (const { tokens, truth } of this.#windows) {
      const compare = (at: number, logits: Float32Array) => sum.add(truth[at]!, logits);
      held += await feedWindow(this.#model, setting, tokens, this.#steps, compare, this.#pause);
      this.runs++;
    }
    const { agreement, kl } = sum.result();
    const measured = { recipe: setting.kv ? setting.name : 'full', held: held / this.#windows.length, agreement, kl };
    this.#known.set(setting.name, measured);
    return measured;
  }
}

/** @returns bytes held after the prompt */
async function feedWindow(
  model: LoadedModel,
  setting: ReturnType<typeof cacheSetting>,
  tokens: readonly number[],
  steps: number,
  sink: (at: number, logits: Float32Array) => void,
  pause?: Pause,
): Promise<number> {
  using feed = new Feed(model, setting, pause);
  const first = tokens.length - steps - 1;
  const take = (position: number, logits: Float32Array) => sink(position - first, logits);
  await feed.prompt(tokens.slice(0, -steps), 'last', take);
  const { held, parked } = feed.stats();
  await feed.push(tokens.slice(-steps, -1), 'all', take);
  return held + parked;
}

/** `count` windows of `length` tokens, evenly spread over a text. */
export function windowsIn(tokens: readonly number[], length: number, count: number): number[][] {
  const stride = count > 1 ? Math.floor((tokens.length - length) / (count - 1)) : 0;
  return Array.from({ length: count }, (_, i) => tokens.slice(i * stride, i * stride + length));
}
