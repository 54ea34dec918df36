import { APPEND_BYTES, KIND_APPEND } from '../../../kernels/abi.ts';
import type { Entry } from '../../../kernels/reference/attend.ts';
import { turnRow } from '../../../kernels/reference/turn.ts';
import { type CpuKernels, createKernels } from '../../backend/cpu/kernels.ts';
import { KvCache } from '../../cache/cache.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import type { PageOptions } from '../../cache/types.ts';
import type { PlainScene } from '../../methods/testing-signals.ts';
import type { ModelConfig } from '../../model/types.ts';
import { RotaryTable } from '../rotary.ts';
import { Sensor } from './sensor.ts';
import type { QueryRows } from './types.ts';

export interface WorldOptions {
  readonly layers?: number;
  readonly kvHeads?: number;
  readonly group?: number;
  readonly headDim?: number;
  readonly window?: number;
  readonly threads?: number;
  readonly deterministic?: boolean;
}

/** Sequences of random rows on the real kernels, a sensor over them, and what it should say, in float64. */
export class World {
  readonly kernels: CpuKernels;
  readonly config: ModelConfig;
  readonly cache: KvCache;
  readonly sensor: Sensor;
  readonly ropes: readonly RotaryTable[];
  readonly random: () => number;
  readonly #blocks: [address: number, bytes: number][] = [];

  static async open(seed: number, options: WorldOptions = {}): Promise<World> {
    const kernels = await createKernels({ limit: 2 ** 28, threads: options.threads ?? 1 });
    return new World(kernels, seed, options);
  }

  private constructor(kernels: CpuKernels, seed: number, options: WorldOptions) {
    const { layers = 2, kvHeads = 2, group = 3, headDim = 16, window = 0, deterministic = false } = options;
    this.kernels = kernels;
    this.random = uniform(seed);
    const inverseFrequencies = Float64Array.from({ length: headDim / 2 }, (_, i) => 10000 ** ((-2 * i) / headDim));
    this.config = {
      architecture: 'llama',
      layers,
      hidden: 24,
      heads: kvHeads * group,
      kvHeads,
      headDim,
      intermediate: 64,
      vocab: 64,
      context: 65536,
      normEpsilon: 1e-5,
      activation: 'silu',
      attentionScale: 1 / Math.sqrt(headDim),
      embeddingScale: 1,
      qkvBias: false,
      qkNorm: false,
      postNorms: false,
      tiedEmbeddings: true,
      ropes: [{ inverseFrequencies, magnitude: 1 }],
      layerRope: Array.from({ length: layers }, () => 0),
      layerWindow: Array.from({ length: layers }, () => window),
    };
    const shape = { slots: layers, kvHeads, headDim, rotary: headDim };
    this.cache = new KvCache({ memory: kernels.memory, kernels, shape, limit: 2 ** 27 });
    this.ropes = this.config.ropes.map(rope => new RotaryTable(rope, kernels.memory));
    this.sensor = new Sensor(kernels, this.config, this.ropes, deterministic);
  }

  normals(count: number): Float32Array {
    return Float32Array.from({ length: count }, () => {
      return Math.sqrt(-2 * Math.log(1 - this.random())) * Math.cos(2 * Math.PI * this.random());
    });
  }

  floats(values: Float32Array): number {
    const bytes = Math.max(64, values.byteLength);
    const address = this.kernels.memory.alloc(bytes);
    this.#blocks.push([address, bytes]);
    this.kernels.memory.f32.set(values, address / 4);
    return address;
  }

  /** A sequence of `tokens` random rows. */
  sequence(pages: Partial<PageOptions>, tokens: number): CacheSequence {
    const sequence = this.cache.create({ owner: 'test', pages: { formatK: 'f32', formatV: 'f32', ...pages } });
    if (tokens > 0) this.append(sequence, tokens);
    return sequence;
  }

  append(sequence: CacheSequence, rows: number, positions?: Int32Array): void {
    const { kvHeads, headDim, layers } = this.config;
    sequence.prepareAppend(rows, positions);
    const at = positions ?? Int32Array.from({ length: rows }, (_, i) => sequence.nextPosition(0) + i);
    const rope = this.ropes[0]!;
    rope.ensure(at.at(-1)! + 1);
    const turn = this.floats(new Float32Array(rows * headDim));
    rope.gather(at, 0, turn);
    for (let slot = 0; slot < layers; slot++) {
      const k = this.floats(this.normals(rows * kvHeads * headDim));
      const v = this.floats(this.normals(rows * kvHeads * headDim));
      const items = this.floats(new Float32Array((sequence.appendItemCount(slot) * APPEND_BYTES) / 4));
      const count = sequence.writeAppendItems(slot, items, k, v, kvHeads * headDim, turn);
      this.kernels.run(KIND_APPEND, items, count);
      sequence.commitAppend(slot);
    }
  }

  /** Random queries at these positions. */
  queries(positions: Int32Array): QueryRows {
    const { heads, headDim } = this.config;
    return {
      address: this.floats(this.normals(positions.length * heads * headDim)),
      rows: positions.length,
      positions,
    };
  }

  /** Entries of a view; `shiftOf` says by how much an entry was moved since it was written. */
  entries(sequence: CacheSequence, layer: number, head: number, shiftOf = (_entry: number) => 0): Entry[] {
    const { headDim } = this.config;
    const { k, v, positions, columns } = sequence.read(layer, head);
    const { inverseFrequencies } = this.config.ropes[0]!;
    return Array.from(positions, (position, i) => {
      const stored = k.subarray(i * headDim, (i + 1) * headDim);
      const turn = sequence.options.pages.keysUnrotated ? position : shiftOf(i);
      return {
        key: turnRow(stored, turn, inverseFrequencies),
        value: v.subarray(i * headDim, (i + 1) * headDim),
        position,
        bias: columns.bias?.[i] ?? 0,
      };
    });
  }

  /** A layer as the plain signals see it: turned keys and queries in float64. */
  scene(
    sequence: CacheSequence,
    layer: number,
    queries: QueryRows | null,
    shiftOf?: (entry: number) => number,
  ): PlainScene {
    const { headDim, heads, kvHeads, layers, layerWindow, ropes } = this.config;
    const flat = (rows: readonly ArrayLike<number>[]) => Float64Array.from(rows.flatMap(row => Array.from(row)));
    const view = (of: number, head: number) => {
      const entries = this.entries(sequence, of, head, shiftOf);
      return {
        k: flat(entries.map(entry => entry.key)),
        v: flat(entries.map(entry => entry.value)),
        positions: sequence.positions(of, head),
        columns: new Map([['bias', Float32Array.from(entries, entry => entry.bias)]]),
      };
    };
    const positions = queries?.positions ?? new Int32Array(0);
    const q = Array.from(positions, (position, row) =>
      Array.from({ length: heads }, (_, h) => {
        const at = queries!.address / 4 + (row * heads + h) * headDim;
        return turnRow(this.kernels.memory.f32.slice(at, at + headDim), position, ropes[0]!.inverseFrequencies);
      }),
    );
    return {
      headDim,
      group: heads / kvHeads,
      window: layerWindow[layer]!,
      views: Array.from({ length: layers }, (_, of) => Array.from({ length: kvHeads }, (_, head) => view(of, head))),
      layer,
      q: flat(q.flat()),
      rowPositions: positions,
      hidden: new Float64Array(0),
    };
  }

  async dispose(): Promise<void> {
    this.sensor.dispose();
    this.cache.dispose();
    for (const rope of this.ropes) rope.dispose();
    for (const [address, bytes] of this.#blocks) this.kernels.memory.free(address, bytes);
    await this.kernels.dispose();
  }
}

/** mulberry32 */
function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
