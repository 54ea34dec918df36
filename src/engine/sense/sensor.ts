import type { Kernels } from '../../backend/types.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import { KvasirError } from '../../errors.ts';
import type {
  AttentionSignal,
  ClusterSignal,
  Nearest,
  NearestSignal,
  PrincipalSignal,
  ResidualSignal,
  SignalRequest,
  SignalValue,
} from '../../methods/types.ts';
import type { ModelConfig } from '../../model/types.ts';
import type { RotaryTable } from '../rotary.ts';
import { AttentionPass, type RowWindow, type Statistics } from './attention-pass.ts';
import { cluster } from './clusters.ts';
import { measureEntries } from './entries.ts';
import { gramOf } from './gram.ts';
import { peakRows } from './hidden-peaks.ts';
import { Norms } from './meters.ts';
import { nearestEntries } from './nearest.ts';
import { principalBasis } from './principal.ts';
import { queryRanges } from './query-ranges.ts';
import { gatherQueries, indicesOf, seenBy } from './query-rows.ts';
import { type Plane, SenseRecords } from './records.ts';
import { finishAttention } from './reduce.ts';
import { checkRequest, keyOf, planesOf } from './requests.ts';
import { residuals } from './residual.ts';
import { readRows } from './rows.ts';
import { Space } from './space.ts';
import { StepSense } from './step.ts';
import type { HiddenRows, QueryRows, SenseCounts, SensePoint, Signals, StepAttention } from './types.ts';

export type * from './types.ts';

/** Computes signals (src/methods/types.ts) on the kernels: heavy parts once for all who ask, nothing that nobody asks for. */
export class Sensor {
  readonly counts: SenseCounts = { rows: 0, steps: 0, decoded: 0, hidden: 0, grams: 0, clusters: 0 };
  readonly #kernels: Kernels;
  readonly #config: ModelConfig;
  readonly #records: SenseRecords;
  readonly #attentionPass: AttentionPass;
  readonly #step: StepSense;

  /** @param deterministic probabilities of steps do not depend on how a long view would be split over threads */
  constructor(kernels: Kernels, config: ModelConfig, ropes: readonly RotaryTable[], deterministic: boolean) {
    this.#kernels = kernels;
    this.#config = config;
    this.#records = new SenseRecords(kernels.memory, config, ropes);
    this.#attentionPass = new AttentionPass(kernels, config, this.#records);
    this.#step = new StepSense(kernels, config, this.#records, deterministic);
  }

  /**
   * All requests of one layer at once. Changes nothing in the sequence; work space is given back before it returns.
   * Windows of attention end at the last query row and reach back as far as rows were kept; variance of fewer than two is 0.
   * Raises `invalid_request` on requests that make no sense here, before anything is computed.
   */
  answer(at: SensePoint, requests: readonly SignalRequest[]): Signals {
    const asked = new Map<string, SignalRequest>();
    for (const request of requests) {
      checkRequest(request, at, this.#config);
      asked.set(keyOf(request), request);
    }
    const values = new Map<string, unknown>();
    this.#attention(at, asked, values);
    this.counts.decoded += measureEntries(this.#kernels, at, asked, values);
    for (const [key, request] of asked) {
      if (request.signal === 'hidden-norm') values.set(key, this.#hiddenNorms(at.hidden!));
      if (request.signal === 'hidden-peaks') values.set(key, this.#hiddenPeaks(at.hidden!, request.count));
      if (request.signal === 'gram') {
        values.set(key, gramOf(this.#kernels, at.sequence, request));
        this.counts.grams++;
      }
      if (request.signal === 'principal') values.set(key, this.#principal(at, request));
      if (request.signal === 'clusters') values.set(key, this.#clusters(at, request));
      if (request.signal === 'nearest') values.set(key, this.#nearest(at, request));
      if (request.signal === 'residual') values.set(key, this.#residuals(at, request));
      if (request.signal === 'ranges' && request.of === 'q') values.set(key, this.#queryRanges(at));
    }
    return <S extends SignalRequest>(request: S) => {
      const value = values.get(keyOf(request));
      if (value !== undefined) return value as SignalValue<S>;
      throw new KvasirError('invalid_request', 'This signal was not asked for at this layer.', {
        field: 'signal',
        value: request,
        allowed: [...asked.keys()],
      });
    };
  }

  /**
   * Probabilities of one decoding row at a layer, its own entry included. Allocates nothing in steady state.
   * @param query row `row` of f32 [rows][heads * headDim] at `address`, before RoPE
   */
  step(
    sequence: CacheSequence,
    layer: number,
    query: { readonly address: number; readonly row: number },
    position: number,
  ): StepAttention {
    this.counts.steps++;
    return this.#step.run(sequence, layer, query, position);
  }

  /** Gives its work space back. */
  dispose(): void {
    this.#step.dispose();
  }

  #attention(at: SensePoint, asked: ReadonlyMap<string, SignalRequest>, values: Map<string, unknown>): void {
    const signals = [...asked].filter((entry): entry is [string, AttentionSignal] => entry[1].signal === 'attention');
    if (signals.length === 0) return;
    const queries = at.queries!;
    const space = new Space(this.#kernels.memory);
    try {
      // Requests about the last rows of what was kept share one pass, those about other rows have passes of their own.
      const passes = new Map<string, { queries: QueryRows; signals: [string, AttentionSignal, rows: number][] }>();
      for (const [key, request] of signals) {
        const { rows } = request;
        let name = '';
        let taken = queries;
        let last = queries.rows;
        if (typeof rows === 'number') last = Math.min(last, rows);
        if (typeof rows === 'object') {
          const indices = indicesOf(rows, queries, at.seed ?? 0);
          last = indices.length;
          if (last < queries.rows) {
            name = JSON.stringify([rows.last, rows.sampled]);
            const width = this.#config.heads * this.#config.headDim;
            taken = passes.get(name)?.queries ?? gatherQueries(this.#kernels.memory, queries, indices, width, space);
          }
        }
        const pass = passes.get(name) ?? { queries: taken, signals: [] };
        pass.signals.push([key, request, last]);
        passes.set(name, pass);
      }
      for (const pass of passes.values()) this.#pass(at, pass.queries, pass.signals, values);
    } finally {
      space.free();
    }
  }

  #pass(
    at: SensePoint,
    queries: QueryRows,
    signals: readonly [key: string, request: AttentionSignal, rows: number][],
    values: Map<string, unknown>,
  ): void {
    const planes = new Map<number, Set<Plane>>();
    for (const [, request, rows] of signals) {
      const set = planes.get(rows) ?? new Set();
      for (const plane of planesOf(request.reduce)) set.add(plane);
      planes.set(rows, set);
    }
    const windows: RowWindow[] = [...planes]
      .map(([rows, set]) => ({ rows, planes: set }))
      .sort((a, b) => a.rows - b.rows);
    const seen = windows.filter(({ rows }) => rows > 0);
    const statistics = new Map<number, Statistics>(
      seen.length > 0 ? this.#attentionPass.run({ ...at, queries }, seen) : [],
    );
    if (windows[0]!.rows === 0) statistics.set(0, this.#nothingSeen(at, windows[0]!.planes));
    this.counts.rows += windows.at(-1)!.rows;
    const group = this.#config.heads / this.#config.kvHeads;
    for (const [key, request, rows] of signals) {
      const heads = perHead(statistics.get(rows)!, request.reduce, rows);
      const means = request.reduce === 'seen-mean' ? this.#seenMeans(at, queries, rows, heads) : heads;
      values.set(key, finishAttention(means, request, group));
    }
  }

  /** Sums divided by how many of the last `rows` rows see each entry. */
  #seenMeans(
    { sequence, layer }: SensePoint,
    queries: QueryRows,
    rows: number,
    sums: readonly Float32Array[],
  ): Float32Array[] {
    const { heads, kvHeads, layerWindow } = this.#config;
    const positions = queries.positions.subarray(queries.rows - rows);
    const counts = Array.from({ length: kvHeads }, (_, head) =>
      seenBy(sequence.positions(layer, head), positions, layerWindow[layer]!),
    );
    return sums.map((sum, h) => {
      const count = counts[Math.floor((h * kvHeads) / heads)]!;
      return sum.map((x, i) => (count[i]! > 0 ? x / count[i]! : 0));
    });
  }

  /** What no row looked at. */
  #nothingSeen({ sequence, layer }: SensePoint, planes: ReadonlySet<Plane>): Statistics {
    const { heads, kvHeads } = this.#config;
    const zeros = () =>
      Array.from(
        { length: heads },
        (_, h) => new Float32Array(sequence.entries(layer, Math.floor((h * kvHeads) / heads))),
      );
    return Object.fromEntries([...planes].map(plane => [plane, zeros()]));
  }

  #queryRanges({ sequence, layer, queries }: SensePoint): Float32Array[] {
    const greatest = queries!.positions.reduce((a, b) => Math.max(a, b), 0);
    this.#records.ensure(sequence, layer, greatest);
    return queryRanges(this.#kernels.memory.f32, queries!, this.#config, this.#records.ropeOf(layer));
  }

  #hiddenPeaks({ address, rows, position }: HiddenRows, count: number): Int32Array {
    const width = this.#config.hidden;
    this.counts.hidden += rows;
    const hidden = this.#kernels.memory.f32.subarray(address / 4, address / 4 + rows * width);
    return Int32Array.from(peakRows(hidden, width, count), position).sort();
  }

  #hiddenNorms({ address, rows }: HiddenRows): Float32Array {
    const width = this.#config.hidden;
    const norms = new Norms(rows, width);
    norms.take(this.#kernels.memory.f32.subarray(address / 4, address / 4 + rows * width), 0, rows);
    this.counts.hidden += rows;
    return norms.value;
  }

  #nearest({ sequence, layer }: SensePoint, request: NearestSignal): Nearest[] {
    return request.members.map((members, head) => {
      if (members.length > 0) this.counts.decoded += sequence.entries(layer, head);
      return nearestEntries(this.#kernels, sequence, layer, head, request);
    });
  }

  #residuals({ sequence, layer }: SensePoint, request: ResidualSignal): Float32Array[] {
    return request.members.map((members, head) => {
      if (members.length > 0) this.counts.decoded += sequence.entries(layer, head);
      return residuals(this.#kernels, sequence, layer, head, request);
    });
  }

  #principal({ sequence }: SensePoint, { of, layers, rank }: PrincipalSignal): Float32Array {
    const gram = gramOf(this.#kernels, sequence, { signal: 'gram', of, layers });
    this.counts.grams++;
    return principalBasis(this.#kernels, gram, Math.sqrt(gram.length), rank, this.#config.headDim);
  }

  #clusters({ sequence, layer }: SensePoint, request: ClusterSignal) {
    const { kvHeads, headDim } = this.#config;
    const { memory } = this.#kernels;
    return Array.from({ length: kvHeads }, (_, head) => {
      const entries = sequence.entries(layer, head);
      const from = Math.min(request.skipFirst, entries);
      const to = Math.max(from, entries - request.skipLast);
      const count = to - from;
      const space = new Space(memory);
      try {
        const address = space.alloc(count * headDim * 4);
        readRows(this.#kernels, sequence, layer, head, 'k', from, to, address);
        this.counts.decoded += count;
        this.counts.clusters++;
        return cluster(this.#kernels, address, count, headDim, request);
      } finally {
        space.free();
      }
    });
  }
}

/** f32 [entries] of each query head. */
function perHead(statistics: Statistics, reduce: AttentionSignal['reduce'], rows: number): Float32Array[] {
  if (reduce === 'variance') return statistics.m2!.map(m2 => (rows < 2 ? m2.fill(0) : m2.map(x => x / (rows - 1))));
  if (reduce === 'mean') return statistics.sum!.map(sum => sum.map(x => (rows === 0 ? 0 : x / rows)));
  return statistics[reduce === 'seen-mean' ? 'sum' : reduce]!;
}
