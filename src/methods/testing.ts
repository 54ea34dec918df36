import { keepEntries, mapEntries, mergeEntries, storeColumn } from './testing-actions.ts';
import { type PlainScene, type PlainView, plainSignal } from './testing-signals.ts';
import type {
  Action,
  FilledLayer,
  ModelShape,
  Policy,
  PromptLayer,
  Segment,
  SignalRequest,
  SignalValue,
} from './types.ts';

/**
 * A cache without an engine: float64 arrays of random tokens on which a policy's sense, decide and actions run by the book.
 * Keys and queries stand for those after RoPE; positions are data beside them. The actions encode, join and park leave rows
 * as they are and only show in what `prompt` returns.
 */

/** What a prompt brings to one layer. */
export interface PlainRows {
  /** f64 [rows][heads][headDim] */
  readonly q: Float64Array;
  /** f64 [rows][kvHeads][headDim] */
  readonly k: Float64Array;
  readonly v: Float64Array;
  /** f64 [rows][hiddenSize] */
  readonly hidden: Float64Array;
}

/** Small seeded generator (mulberry32), uniform in [0, 1). */
export function plainRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function plainModel(shape: { layers?: number; kvHeads?: number; group?: number; headDim?: number } = {}) {
  const { layers = 2, kvHeads = 2, group = 2, headDim = 8 } = shape;
  return {
    layers,
    kvHeads,
    group,
    heads: kvHeads * group,
    headDim,
    rotary: headDim,
    context: 1 << 20,
    layerWindow: Array.from({ length: layers }, () => 0),
    fingerprint: 'plain',
  } satisfies ModelShape;
}

/** Normal rows for each layer; `sharpness` widens the spread of attention. */
export function plainPrompt(model: ModelShape, rows: number, random: () => number, sharpness = 2): PlainRows[] {
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const fill = (length: number, scale = 1) => Float64Array.from({ length }, () => Math.fround(scale * normal()));
  return Array.from({ length: model.layers }, () => ({
    q: fill(rows * model.heads * model.headDim, sharpness),
    k: fill(rows * model.kvHeads * model.headDim),
    v: fill(rows * model.kvHeads * model.headDim),
    hidden: fill(rows * 16),
  }));
}

export class PlainCache {
  readonly model: ModelShape;
  readonly views: PlainView[][];
  readonly #seed: number;
  #state: object | undefined;
  seen = 0;
  segments: readonly Segment[] = [];
  /** By layer: the next row's position there. */
  readonly next: number[];

  constructor(model: ModelShape, seed = 1) {
    this.model = model;
    this.#seed = seed;
    this.next = Array.from({ length: model.layers }, () => 0);
    this.views = Array.from({ length: model.layers }, () =>
      Array.from({ length: model.kvHeads }, () => ({
        k: new Float64Array(0),
        v: new Float64Array(0),
        positions: new Int32Array(0),
        columns: new Map<string, Float32Array>(),
      })),
    );
  }

  /**
   * Runs a prompt (chunk) through all layers, layer-major, as a runner does for one policy.
   * @returns the actions of each layer
   */
  prompt(policy: Policy, tensors: readonly PlainRows[], last = true): (readonly Action[])[] {
    const count = tensors[0]!.k.length / (this.model.kvHeads * this.model.headDim);
    this.seen += count;
    // Positions are those of the first layer, whatever later layers have dropped.
    const start = this.next[0]!;
    let rows = Uint32Array.from({ length: count }, (_, i) => i);
    return tensors.map((tensor, layer) => {
      const picked = pickRows(tensor, rows, count);
      const positions = Int32Array.from(rows, row => start + row);
      this.append(layer, picked, positions);
      const asked = policy.sense?.(layer) ?? [];
      const actions = policy.decide?.(this.promptLayer(layer, picked, positions, asked, last)) ?? [];
      this.apply(actions);
      for (const action of actions) if (action.do === 'rows') rows = action.rows.map(row => rows[row]!);
      return actions;
    });
  }

  /** Rows go into every view of a layer; columns get 0. */
  append(layer: number, rows: Pick<PlainRows, 'k' | 'v'>, positions: Int32Array): void {
    const { kvHeads, headDim } = this.model;
    this.views[layer]!.forEach((view, head) => {
      const grow = (old: Float64Array, plane: Float64Array) => {
        const out = new Float64Array(old.length + positions.length * headDim);
        out.set(old);
        positions.forEach((_, r) => {
          const at = (r * kvHeads + head) * headDim;
          out.set(plane.subarray(at, at + headDim), old.length + r * headDim);
        });
        return out;
      };
      view.k = grow(view.k, rows.k);
      view.v = grow(view.v, rows.v);
      view.positions = Int32Array.of(...view.positions, ...positions);
      for (const [name, old] of view.columns) {
        const values = new Float32Array(view.positions.length);
        values.set(old);
        view.columns.set(name, values);
      }
    });
    this.next[layer] = Math.max(this.next[layer]!, ...positions.map(position => position + 1));
  }

  /** The layer at rest. */
  at(layer: number): FilledLayer {
    const none = new Float64Array(0);
    const scene = this.#scene(layer, { q: none, k: none, v: none, hidden: none }, new Int32Array(0));
    const view = (head: number, of = layer) => this.views[of]![head]!;
    return {
      layer,
      model: this.model,
      seen: this.seen,
      segments: this.segments,
      entries: (head, of) => view(head, of).positions.length,
      positions: (head, of) => view(head, of).positions.slice(),
      fullPages: (head, of) => {
        // The last page is the growing one, even when it is full.
        const full = Math.floor(Math.max(0, view(head, of).positions.length - 1) / 64);
        return full > 0 ? [[0, full * 64] as const] : [];
      },
      exact: (head, of) => {
        const entries = view(head, of).positions.length;
        return entries > 0 ? [[0, entries] as const] : [];
      },
      column: (name, head, of) =>
        view(head, of).columns.get(name)?.slice() ?? new Float32Array(view(head, of).positions.length),
      state: <T extends object>(init: () => T): T => {
        this.#state ??= init();
        return this.#state as T;
      },
      random: () => plainRandom(this.#seed * 7919 + layer + 104729 * this.seen),
      signal: request => plainSignal(scene, request),
    };
  }

  #scene(layer: number, rows: PlainRows, positions: Int32Array): PlainScene {
    return {
      headDim: this.model.headDim,
      group: this.model.group,
      window: this.model.layerWindow[layer]!,
      views: this.views,
      layer,
      q: rows.q,
      rowPositions: positions,
      hidden: rows.hidden,
      seed: this.#seed,
    };
  }

  /** The layer after `rows` have been appended to it and run through it. */
  promptLayer(
    layer: number,
    rows: PlainRows,
    positions: Int32Array,
    asked: readonly SignalRequest[],
    last = true,
  ): PromptLayer {
    const scene = this.#scene(layer, rows, positions);
    const names = new Set(asked.map(request => JSON.stringify(request)));
    return {
      ...this.at(layer),
      rows: positions.length,
      last,
      signal: <S extends SignalRequest>(request: S): SignalValue<S> => {
        const late = ['distance', 'nearest', 'residual', 'principal'].includes(request.signal);
        const announced = late || names.has(JSON.stringify(request));
        if (!announced) throw new Error(`Not asked for: ${JSON.stringify(request)}`);
        return plainSignal(scene, request);
      },
    };
  }

  /** One after the other: entry numbers are those after the actions before. */
  apply(actions: readonly Action[]): void {
    for (const action of actions) {
      const views = 'layer' in action ? this.views[action.layer]! : [];
      if (action.do === 'column') storeColumn(views, action);
      if (action.do === 'merge') mergeEntries(views[action.head]!, action, this.model.headDim);
      if (action.do === 'map') mapEntries(this.views, action, this.model.headDim);
      if (action.do === 'keep') keepEntries(views, action, this.model.headDim);
      if (action.do !== 'renumber') continue;
      for (const view of views) view.positions = Int32Array.from(view.positions, (_, i) => i);
      this.next[action.layer] = Math.max(...views.map(view => view.positions.length));
    }
  }
}

function pickRows(tensor: PlainRows, rows: Uint32Array, of: number): PlainRows {
  const pick = (x: Float64Array) => {
    const width = of > 0 ? x.length / of : 0;
    const out = new Float64Array(rows.length * width);
    rows.forEach((row, i) => {
      out.set(x.subarray(row * width, (row + 1) * width), i * width);
    });
    return out;
  };
  return { q: pick(tensor.q), k: pick(tensor.k), v: pick(tensor.v), hidden: pick(tensor.hidden) };
}
