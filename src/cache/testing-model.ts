import * as abi from '../../kernels/abi.ts';
import { APPEND_BYTES, ATTEND_BYTES, KIND_APPEND, KIND_ATTEND } from '../../kernels/abi.ts';
import type { KvCache } from './cache.ts';
import type { CacheSequence } from './sequence.ts';
import { PlainMemory } from './testing.ts';
import type { FormatName, PageOptions } from './types.ts';

/** The plain model that the cache is held against: arrays of entries, nothing shared, nothing encoded. */

export interface Entry {
  /** As appended; the key turned by `stored`. */
  readonly k: Float64Array;
  readonly v: Float64Array;
  /** As first read back: from then on the cache must give exactly these bits. */
  codes: { k: Float32Array; v: Float32Array } | null;
  /** Largest errors of the first reading where another format than the sequence's is behind it. */
  readonly allowed?: { readonly k: number; readonly v: number };
  readonly stored: number;
  shift: number;
  readonly columns: Record<string, number>;
}

/** [view][entry] */
export type Model = Entry[][];

export function copyModel(model: Model): Model {
  return model.map(entries => entries.map(entry => ({ ...entry, columns: { ...entry.columns } })));
}

/** As after a renumbering: entries at 0, 1, 2, ... Keys before RoPE only. */
export function renumbered(entries: readonly Entry[]): Entry[] {
  return entries.map((entry, i) => ({ ...entry, stored: i, shift: 0 }));
}

export function positionOf(entry: Entry): number {
  return entry.stored + entry.shift;
}

/** Largest error that one number of a row may have after encoding. */
export function tolerance(format: FormatName, row: ArrayLike<number>): number {
  let top = 0;
  for (let i = 0; i < row.length; i++) top = Math.max(top, Math.abs(row[i]!));
  if (format === 'f32') return 1e-6 * (1 + top);
  if (format === 'f16') return top * 2 ** -11 + 1e-6 * (1 + top);
  return (top / 127) * 0.51 + 1e-6;
}

/** Numbers in -1..1 from a seed (mulberry32). */
export function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

function frequency(i: number, rotary: number): number {
  return 100 ** ((-2 * i) / rotary);
}

/** x turned to `position`. */
export function turn(x: ArrayLike<number>, position: number, rotary: number): Float64Array {
  const out = Float64Array.from(x);
  const half = rotary / 2;
  for (let i = 0; i < half; i++) {
    const angle = position * frequency(i, rotary);
    out[i] = x[i]! * Math.cos(angle) - x[i + half]! * Math.sin(angle);
    out[i + half] = x[i + half]! * Math.cos(angle) + x[i]! * Math.sin(angle);
  }
  return out;
}

/** Cosines and sines of turns by numbers of positions: f32 [turns][rotary]. */
export function turnTable(positions: ArrayLike<number>, rotary: number): Float32Array {
  const table = new Float32Array(positions.length * rotary);
  writeTable(table, 0, positions, rotary);
  return table;
}

function writeTable(f32: Float32Array, at: number, positions: ArrayLike<number>, rotary: number): void {
  const half = rotary / 2;
  for (let row = 0; row < positions.length; row++) {
    for (let i = 0; i < half; i++) {
      const angle = positions[row]! * frequency(i, rotary);
      f32[at + row * rotary + i] = Math.cos(angle);
      f32[at + row * rotary + half + i] = Math.sin(angle);
    }
  }
}

function pagesOf(sequence: CacheSequence, slot: number): PageOptions {
  return sequence.options.overrides?.get(slot) ?? sequence.options.pages;
}

/** Writes and commits prepared rows of one slot with numbers from `random`; returns the new entries by head. */
export function fillSlot(
  cache: KvCache,
  sequence: CacheSequence,
  slot: number,
  positions: readonly number[],
  random: () => number,
): Entry[][] {
  const { memory, shape } = cache;
  const { kvHeads, headDim, rotary } = shape;
  // Only the cache's own allocations may be starved.
  if (memory instanceof PlainMemory) memory.allowance = Number.POSITIVE_INFINITY;
  const rows = positions.length;
  const stride = kvHeads * headDim;
  const bytes = (2 * rows * stride + rows * rotary) * 4 + sequence.appendItemCount(slot, rows) * APPEND_BYTES + 64;
  const k = memory.alloc(bytes);
  const v = k + rows * stride * 4;
  const table = v + rows * stride * 4;
  const items = Math.ceil((table + rows * rotary * 4) / 64) * 64;
  const { f32 } = memory;
  for (let i = 0; i < 2 * rows * stride; i++) f32[k / 4 + i] = random();
  writeTable(f32, table / 4, positions, rotary);
  const count = sequence.writeAppendItems(slot, items, k, v, stride, table, rows);
  cache.kernels.run(KIND_APPEND, items, count);
  sequence.commitAppend(slot, rows);
  const unrotated = pagesOf(sequence, slot).keysUnrotated ?? false;
  const { columns } = sequence.content.spans.groups[sequence.content.spans.groupOfView[slot * kvHeads]!]!.layout;
  const entries = Array.from({ length: kvHeads }, (_, head) =>
    positions.map((stored, row): Entry => {
      const at = row * stride + head * headDim;
      const of = (base: number) => f32.subarray(base / 4 + at, base / 4 + at + headDim);
      const zero = Object.fromEntries([...columns.keys()].map(name => [name, 0]));
      const value = Float64Array.from(of(v));
      const key = unrotated ? Float64Array.from(of(k)) : turn(of(k), stored, rotary);
      return { k: key, v: value, codes: null, stored, shift: 0, columns: zero };
    }),
  );
  memory.free(k, bytes);
  return entries;
}

/** Prepares, writes and commits rows in all slots; adds them to the model. */
export function appendRows(
  cache: KvCache,
  sequence: CacheSequence,
  model: Model,
  rows: number,
  random: () => number,
  positions?: readonly number[],
): void {
  sequence.prepareAppend(rows, positions && Int32Array.from(positions));
  const { slots, kvHeads } = cache.shape;
  for (let slot = 0; slot < slots; slot++) {
    const from = sequence.nextPosition(slot);
    const at = positions ?? Array.from({ length: rows }, (_, i) => from + i);
    const added = fillSlot(cache, sequence, slot, at, random);
    for (let head = 0; head < kvHeads; head++) model[slot * kvHeads + head]!.push(...added[head]!);
  }
}

/** Holds one sequence against its model: positions, columns, decoded rows. */
export function compare(cache: KvCache, sequence: CacheSequence, model: Model): void {
  const { slots, kvHeads, headDim } = cache.shape;
  for (let slot = 0; slot < slots; slot++) {
    const pages = pagesOf(sequence, slot);
    for (let head = 0; head < kvHeads; head++) {
      const entries = model[slot * kvHeads + head]!;
      const where = `slot ${slot} head ${head}`;
      const got = sequence.read(slot, head);
      if (got.positions.length !== entries.length) {
        throw new Error(`${where}: ${got.positions.length} entries, not ${entries.length}`);
      }
      for (const [i, entry] of entries.entries()) {
        if (got.positions[i] !== positionOf(entry)) {
          throw new Error(`${where} entry ${i}: position ${got.positions[i]}, not ${positionOf(entry)}`);
        }
        for (const [name, value] of Object.entries(entry.columns)) {
          const column = got.columns[name]![i];
          if (column !== value) throw new Error(`${where} entry ${i}: ${name} ${column}, not ${value}`);
        }
        for (const plane of ['k', 'v'] as const) {
          const row = got[plane].subarray(i * headDim, (i + 1) * headDim);
          const expected = entry.codes?.[plane] ?? entry[plane];
          const format = plane === 'k' ? pages.formatK : pages.formatV;
          const allowed = entry.codes ? 0 : (entry.allowed?.[plane] ?? tolerance(format, entry[plane]));
          for (let c = 0; c < headDim; c++) {
            if (Math.abs(row[c]! - expected[c]!) <= allowed) continue;
            throw new Error(`${where} entry ${i} ${plane}[${c}]: ${row[c]}, not ${expected[c]} within ${allowed}`);
          }
        }
        entry.codes ??= {
          k: got.k.slice(i * headDim, (i + 1) * headDim),
          v: got.v.slice(i * headDim, (i + 1) * headDim),
        };
      }
    }
  }
}

/** Attention of query rows over a view: by the kernels, and over the model in float64. [rows, group, headDim] both. */
export function attend(
  cache: KvCache,
  sequence: CacheSequence,
  model: Model,
  slot: number,
  head: number,
  queries: { positions: readonly number[]; group: number; window: number; q: Float32Array },
): { actual: Float64Array; expected: Float64Array } {
  const { memory, kernels, shape } = cache;
  const { headDim, rotary, kvHeads } = shape;
  const { positions, group, window, q } = queries;
  const rows = positions.length;
  const shifts = sequence.shifts();
  const scale = 1 / Math.sqrt(headDim);
  const stride = group * headDim;
  const entries = model[slot * kvHeads + head]!;
  const unrotated = pagesOf(sequence, slot).keysUnrotated ?? false;
  const steps = unrotated ? 1 + Math.floor(Math.max(0, ...entries.map(e => e.stored)) / abi.KEY_TURN_STEP) : 0;
  const tables = unrotated ? (steps + abi.KEY_TURN_STEP) * rotary : 0;
  const floats = 2 * rows * stride + rows + shifts.length * (2 + rows * rotary) + tables;
  const bytes = floats * 4 + ATTEND_BYTES + 64;
  const qAt = memory.alloc(bytes);
  const outAt = qAt + rows * stride * 4;
  const positionsAt = outAt + rows * stride * 4;
  const turnsAt = positionsAt + rows * 4;
  const tableAt = turnsAt + shifts.length * 8;
  const coarse = tableAt + shifts.length * rows * rotary * 4;
  const fine = coarse + steps * rotary * 4;
  const item = Math.ceil((coarse + tables * 4) / 64) * 64;
  const { f32, i32, u32 } = memory;
  f32.set(q, qAt / 4);
  i32.set(positions, positionsAt / 4);
  for (const [i, shift] of shifts.entries()) {
    const table = tableAt + i * rows * rotary * 4;
    i32[turnsAt / 4 + 2 * i] = shift;
    u32[turnsAt / 4 + 2 * i + 1] = table;
    writeTable(
      f32,
      table / 4,
      positions.map(position => position - shift),
      rotary,
    );
  }
  if (unrotated) {
    const range = (count: number, step: number) => Array.from({ length: count }, (_, i) => i * step);
    writeTable(f32, coarse / 4, range(steps, abi.KEY_TURN_STEP), rotary);
    writeTable(f32, fine / 4, range(abi.KEY_TURN_STEP, 1), rotary);
  }
  u32.fill(0, item / 4, (item + ATTEND_BYTES) / 4);
  const set = (field: number, value: number) => {
    u32[(item + field) / 4] = value;
  };
  set(abi.ATTEND_REFS, sequence.refs(slot, head));
  set(abi.ATTEND_REF_COUNT, sequence.refCount(slot, head));
  set(abi.ATTEND_Q, qAt);
  set(abi.ATTEND_Q_STRIDE, stride);
  set(abi.ATTEND_ROWS, rows);
  set(abi.ATTEND_GROUP, group);
  set(abi.ATTEND_HEAD_DIM, headDim);
  set(abi.ATTEND_OUT, outAt);
  set(abi.ATTEND_OUT_STRIDE, stride);
  set(abi.ATTEND_POSITIONS, positionsAt);
  set(abi.ATTEND_TURNS, turnsAt);
  set(abi.ATTEND_TURN_COUNT, shifts.length);
  set(abi.ATTEND_WINDOW, window);
  f32[(item + abi.ATTEND_SCALE) / 4] = scale;
  set(abi.ATTEND_LAYOUTS, cache.layouts);
  set(abi.ATTEND_KEY_COARSE, coarse);
  set(abi.ATTEND_KEY_FINE, fine);
  kernels.run(KIND_ATTEND, item, 1);
  const actual = Float64Array.from(memory.f32.subarray(outAt / 4, outAt / 4 + rows * stride));
  memory.free(qAt, bytes);

  const expected = new Float64Array(rows * stride);
  for (let row = 0; row < rows; row++) {
    for (let g = 0; g < group; g++) {
      const from = row * stride + g * headDim;
      const seen = entries.filter(entry => {
        const distance = positions[row]! - positionOf(entry);
        return distance >= 0 && (window === 0 || distance < window);
      });
      const scores = seen.map(entry => {
        const query = turn(q.subarray(from, from + headDim), positions[row]! - entry.shift, rotary);
        const { k } = entry.codes!;
        const key = unrotated ? turn(k, entry.stored, rotary) : k;
        let dot = 0;
        for (let c = 0; c < headDim; c++) dot += query[c]! * key[c]!;
        return dot * scale + (entry.columns.bias ?? 0);
      });
      const top = Math.max(...scores);
      let sum = 0;
      for (const [i, score] of scores.entries()) {
        const p = Math.exp(score - top);
        sum += p;
        for (let c = 0; c < headDim; c++) expected[from + c]! += p * seen[i]!.codes!.v[c]!;
      }
      for (let c = 0; sum > 0 && c < headDim; c++) expected[from + c]! /= sum;
    }
  }
  return { actual, expected };
}
