import type { LoadedModel } from '../../src/engine/loaded-model.ts';
import { type CacheSetting, FULL } from '../../src/eval/cache-setting.ts';
import { Feed } from '../../src/eval/feed.ts';
import { Divergence, type DivergenceResult } from '../../src/eval/meters/divergence.ts';
import { forced } from '../../src/eval/meters/exact.ts';
import type { Task } from '../../src/eval/tasks/types.ts';
import { createTools, generate, type Sample, type ToolsOptions } from '../../src/eval/tools.ts';

/** Answers in which every token was the likeliest. */
export interface TaskScore {
  readonly kind: 'task';
  readonly right: number;
  readonly n: number;
  readonly meanTokens: number;
  /** By instance: all answers right. */
  readonly outcomes: readonly boolean[];
}

/** Means over windows of running text: a prompt, then `STEPS` forced tokens. */
export interface TextScore extends DivergenceResult {
  readonly kind: 'text';
  /** Entries a layer and KV head, when the prompt had been read. */
  readonly kept: number;
  /** Bytes of the cache then, and after the forced tokens. */
  readonly held: number;
  readonly heldAfter: number;
  /** The most at any moment. */
  readonly peak: number;
  /** Bytes outside of the cache, and brought back from there. */
  readonly parked: number;
  readonly fetched: number;
}

export type Cell = (TaskScore | TextScore) & { seconds: number; commit: string; dirty: boolean };
export type Cells = Record<string, Cell>;

export interface Size {
  readonly length: number;
  readonly n: number;
  readonly windows: number;
  readonly seed: number;
}

/** Forced tokens after the prompt of a window. */
export const STEPS = 128;

/** Measures one setting on one task, or on running text; instances and the full cache's logits are made once. */
export class RecipeCells {
  readonly #model: LoadedModel;
  readonly #size: Size;
  readonly #setup: ToolsOptions;
  readonly #tools: ReturnType<typeof createTools>;
  readonly #samples = new Map<string, Sample[]>();
  #windows: { tokens: readonly number[]; truth: Float32Array[] }[] | undefined;

  constructor(model: LoadedModel, books: readonly string[], size: Size) {
    this.#model = model;
    this.#size = size;
    this.#setup = { tokenizer: model.tokenizer, chat: model.info.hasChatTemplate, phrasing: 'training', books };
    this.#tools = createTools(this.#setup);
  }

  /** Says all that a cell depends on but the code. */
  key(what: Task | 'text', recipe: string): string {
    const { length, n, windows, seed } = this.#size;
    const count = what === 'text' ? `windows=${windows}` : `n=${n}, seed=${seed}`;
    return `${this.#model.info.fingerprint.slice(0, 12)} ${length} ${what === 'text' ? what : what.name} ${count} ${recipe}`;
  }

  measure(what: Task | 'text', setting: CacheSetting): Promise<TaskScore | TextScore> {
    return what === 'text' ? this.#text(setting) : this.#task(what, setting);
  }

  async #task(task: Task, setting: CacheSetting): Promise<TaskScore> {
    const { length, n, seed } = this.#size;
    let samples = this.#samples.get(task.name);
    if (!samples) {
      samples = Array.from({ length: n }, (_, i) => generate(task, length, seed, i, this.#tools, this.#setup));
      this.#samples.set(task.name, samples);
    }
    const outcomes: boolean[] = [];
    for (const sample of samples) outcomes.push((await forced(this.#model, setting, sample)).right.every(Boolean));
    return {
      kind: 'task',
      right: outcomes.filter(Boolean).length,
      n,
      meanTokens: samples.reduce((sum, { encoded }) => sum + encoded.tokens, 0) / n,
      outcomes,
    };
  }

  async #text(setting: CacheSetting): Promise<TextScore> {
    this.#windows ??= await this.#reference();
    const sum = new Divergence();
    const means = { kept: 0, held: 0, heldAfter: 0, parked: 0, fetched: 0 };
    let peak = 0;
    for (const { tokens, truth } of this.#windows) {
      using feed = new Feed(this.#model, setting);
      let at = 0;
      const compare = (_: number, logits: Float32Array) => sum.add(truth[at++]!, logits);
      await feed.prompt(tokens.slice(0, -STEPS), 'last', compare);
      const before = feed.stats();
      await feed.push(tokens.slice(-STEPS), 'all', compare);
      const after = feed.stats();
      const share = 1 / this.#windows.length;
      means.kept += (share * before.tokens.reduce((a, b) => a + b, 0)) / before.tokens.length;
      means.held += share * before.held;
      means.heldAfter += share * after.held;
      means.parked += share * after.parked;
      means.fetched += share * after.fetched;
      peak = Math.max(peak, after.peak);
    }
    return { kind: 'text', ...sum.result(), ...means, peak };
  }

  /** Windows spread evenly over the books, with the full f32 cache's logits from the last token of the prompt on. */
  async #reference() {
    const tokens = this.#model.tokenizer.encode(this.#setup.books.join('\n\n'));
    const { length, windows: count } = this.#size;
    const stride = Math.floor((tokens.length - length) / count);
    const windows: { tokens: readonly number[]; truth: Float32Array[] }[] = [];
    for (let i = 0; i < count; i++) {
      const window = tokens.slice(i * stride, i * stride + length);
      const truth: Float32Array[] = [];
      using feed = new Feed(this.#model, FULL);
      const note = (_: number, logits: Float32Array) => void truth.push(logits.slice());
      await feed.prompt(window.slice(0, -STEPS), 'last', note);
      await feed.push(window.slice(-STEPS), 'all', note);
      windows.push({ tokens: window, truth });
    }
    return windows;
  }
}
