import { ATTEND_BYTES, KIND_SENSE, KIND_SENSE_ROWS, REF_BYTES, SENSE_BYTES, TURN_BYTES } from '../../../kernels/abi.ts';
import type { Kernels } from '../../backend/types.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import type { ModelConfig } from '../../model/types.ts';
import { Scratch } from '../workspace.ts';
import { liveInRange } from './live.ts';
import { lineOf, type SenseRecords } from './records.ts';
import type { StepAttention } from './types.ts';

/** Long views are split every so many references (1,024 tokens), so that few heads can still use all threads. */
const SPLIT_REFS = 16;
const ENTRIES_PER_ITEM = 512;

/** What one decoding row looks at. Keeps its work space from step to step. */
export class StepSense {
  readonly #kernels: Kernels;
  readonly #config: ModelConfig;
  readonly #records: SenseRecords;
  readonly #deterministic: boolean;
  readonly #group: number;
  readonly #items: Scratch;
  readonly #norms: Scratch;
  readonly #scores: Scratch;
  readonly #planes: Scratch;
  readonly #turns: Scratch;
  readonly #result: { values: Float32Array; readonly offsets: Uint32Array; readonly entries: Uint32Array };

  constructor(kernels: Kernels, config: ModelConfig, records: SenseRecords, deterministic: boolean) {
    const { memory } = kernels;
    this.#kernels = kernels;
    this.#config = config;
    this.#records = records;
    this.#deterministic = deterministic;
    this.#group = records.group;
    this.#items = new Scratch(memory);
    this.#norms = new Scratch(memory);
    this.#scores = new Scratch(memory);
    this.#planes = new Scratch(memory);
    this.#turns = new Scratch(memory);
    const offsets = new Uint32Array(config.heads);
    this.#result = { values: memory.f32, offsets, entries: new Uint32Array(config.kvHeads) };
  }

  run(
    sequence: CacheSequence,
    layer: number,
    query: { readonly address: number; readonly row: number },
    position: number,
  ): StepAttention {
    const { kvHeads, heads, headDim } = this.#config;
    const { memory } = this.#kernels;
    const group = this.#group;
    const { offsets, entries } = this.#result;
    let floats = 0;
    let parts = 0;
    let ranges = 0;
    for (let head = 0; head < kvHeads; head++) {
      entries[head] = sequence.entries(layer, head);
      floats += lineOf(entries[head]!) * group;
      parts += this.#parts(sequence.refCount(layer, head));
      ranges += Math.ceil(entries[head]! / ENTRIES_PER_ITEM);
    }
    const shifts = sequence.shifts();
    this.#records.ensure(sequence, layer, position);
    const scores = this.#scores.ensure(floats * 4);
    const planes = this.#planes.ensure(floats * 4);
    const norms = this.#norms.ensure(parts * group * 8);
    const items = this.#items.ensure(Math.max(parts * ATTEND_BYTES, ranges * SENSE_BYTES));
    const turns = this.#turns.ensure(shifts.length * TURN_BYTES + 4);
    const positions = turns + shifts.length * TURN_BYTES;
    const { i32, f32 } = memory;
    f32.fill(0, planes / 4, planes / 4 + floats);
    i32[positions / 4] = position;
    const rope = this.#records.ropeOf(layer);
    for (let s = 0; s < shifts.length; s++) {
      i32[turns / 4 + 2 * s] = shifts[s]!;
      // A row before the shift sees none of those entries, so any angle will do.
      i32[turns / 4 + 2 * s + 1] = rope.row(Math.max(0, position - shifts[s]!));
    }
    this.#records.begin(sequence, layer, query.address + query.row * heads * headDim * 4, positions);
    this.#score(sequence, layer, items, turns, norms, scores, parts);
    let item = items;
    let norm = norms;
    let offset = 0;
    for (let head = 0; head < kvHeads; head++) {
      const splits = this.#parts(sequence.refCount(layer, head));
      if (splits > 1) this.#join(norm, splits);
      const line = lineOf(entries[head]!);
      for (let first = 0; first < entries[head]!; first += ENTRIES_PER_ITEM, item += SENSE_BYTES) {
        const end = Math.min(entries[head]!, first + ENTRIES_PER_ITEM);
        this.#records.entries(item, scores + offset * 4, norm, 1, first, end, line, 0);
        this.#records.plane(item, 'sum', planes + offset * 4);
      }
      norm += splits * group * 8;
      for (let g = 0; g < group; g++, offset += line) offsets[head * group + g] = planes / 4 + offset;
    }
    this.#kernels.run(KIND_SENSE, items, ranges);
    this.#result.values = f32;
    return this.#result;
  }

  dispose(): void {
    for (const scratch of [this.#items, this.#norms, this.#scores, this.#planes, this.#turns]) scratch.dispose();
  }

  /** Scores and statistics of the row, those of a long view in parts. */
  #score(
    sequence: CacheSequence,
    layer: number,
    items: number,
    turns: number,
    norms: number,
    scores: number,
    parts: number,
  ): void {
    const { memory } = this.#kernels;
    const group = this.#group;
    let item = items;
    let norm = norms;
    let to = scores;
    for (let head = 0; head < this.#config.kvHeads; head++) {
      const refs = sequence.refCount(layer, head);
      const splits = this.#parts(refs);
      const line = lineOf(sequence.entries(layer, head));
      let entry = 0;
      for (let part = 0; part < splits; part++, item += ATTEND_BYTES, norm += group * 8) {
        const first = part * SPLIT_REFS;
        const count = splits === 1 ? refs : Math.min(SPLIT_REFS, refs - first);
        this.#records.rows(item, head, first, count, 0, 1, turns, norm, to + entry * 4, line);
        if (splits > 1) entry += liveInRange(memory, sequence.refs(layer, head) + first * REF_BYTES, count);
      }
      to += line * group * 4;
    }
    this.#kernels.run(KIND_SENSE_ROWS, items, parts);
  }

  #parts(refs: number): number {
    return this.#deterministic || refs < 2 * SPLIT_REFS ? 1 : Math.ceil(refs / SPLIT_REFS);
  }

  /** Maximum and sum of the whole view in the place of its first part's. */
  #join(norms: number, parts: number): void {
    const { f32 } = this.#kernels.memory;
    const group = this.#group;
    for (let g = 0; g < group; g++) {
      let top = Number.NEGATIVE_INFINITY;
      for (let part = 0; part < parts; part++) top = Math.max(top, f32[norms / 4 + (part * group + g) * 2]!);
      let sum = 0;
      for (let part = 0; part < parts; part++) {
        const at = norms / 4 + (part * group + g) * 2;
        if (f32[at + 1]! > 0) sum += f32[at + 1]! * 2 ** (f32[at]! - top);
      }
      f32[norms / 4 + g * 2] = top;
      f32[norms / 4 + g * 2 + 1] = sum;
    }
  }
}
