import { ATTEND_BYTES, KIND_SENSE, KIND_SENSE_ROWS, SENSE_BYTES, TURN_BYTES } from '../../../kernels/abi.ts';
import type { Kernels } from '../../backend/types.ts';
import type { ModelConfig } from '../../model/types.ts';
import { Reach } from './reach.ts';
import { lineOf, type Plane, type SenseRecords } from './records.ts';
import { Space } from './space.ts';
import type { SensePoint } from './types.ts';

/** Rows that are worked on at once, and bytes of scores that they may take: fewer rows where there are many entries. */
const BLOCK_ROWS = 1024;
const BLOCK_BYTES = 32 << 20;
/** Query vectors of one SENSE_ROWS record. */
const QUERIES_PER_ITEM = 64;
/** Entries of one SENSE record. */
const ENTRIES_PER_ITEM = 512;

/** The last `rows` rows, and what is asked of them. */
export interface RowWindow {
  readonly rows: number;
  readonly planes: ReadonlySet<Plane>;
}

/** f32 [entries], one a query head. */
export type Statistics = Partial<Record<Plane, Float32Array[]>>;

/**
 * Statistics of the attention of the last rows of a prompt, for several windows at once, each reaching farther back than the
 * one before. Every row goes in once: the planes of a window are those of the shorter one, and more rows.
 */
export class AttentionPass {
  readonly #kernels: Kernels;
  readonly #config: ModelConfig;
  readonly #records: SenseRecords;
  readonly #group: number;

  constructor(kernels: Kernels, config: ModelConfig, records: SenseRecords) {
    this.#kernels = kernels;
    this.#config = config;
    this.#records = records;
    this.#group = records.group;
  }

  /** @param windows by rows, ascending, different, at least 1 and at most those of the point's queries */
  run(point: SensePoint, windows: readonly RowWindow[]): Map<number, Statistics> {
    const { sequence, layer } = point;
    const queries = point.queries!;
    const { kvHeads } = this.#config;
    const last = windows.at(-1)!.rows;
    let greatest = 0;
    for (let row = queries.rows - last; row < queries.rows; row++) {
      greatest = Math.max(greatest, queries.positions[row]!);
    }
    this.#records.ensure(sequence, layer, greatest);
    let floats = 0;
    const offsets = Array.from({ length: kvHeads }, (_, head) => {
      const at = floats;
      floats += lineOf(sequence.entries(layer, head)) * this.#group;
      return at;
    });
    const perItem = Math.max(1, Math.floor(QUERIES_PER_ITEM / this.#group));
    const fitting = Math.min(BLOCK_ROWS, Math.floor(BLOCK_BYTES / Math.max(1, floats * 4)));
    const blockRows = fitting < perItem ? Math.max(1, fitting) : fitting - (fitting % perItem);
    const reaches = offsets.map((_, head) => new Reach(this.#kernels.memory, sequence, layer, head));
    const space = new Space(this.#kernels.memory);
    try {
      const kept = [...new Set(windows.flatMap(window => [...window.planes]))];
      const planes = space.alloc(floats * kept.length * 4);
      this.#kernels.memory.f32.fill(0, planes / 4, planes / 4 + floats * kept.length);
      const addressOf = (plane: Plane, head: number) => planes + (kept.indexOf(plane) * floats + offsets[head]!) * 4;
      const results = new Map<number, Statistics>();
      let done = 0;
      for (const [i, window] of windows.entries()) {
        // Longer windows are made of these rows too.
        const asked = new Set(windows.slice(i).flatMap(w => [...w.planes]));
        while (done < window.rows) {
          const rows = Math.min(blockRows, window.rows - done);
          this.#block(point, queries.rows - done - rows, rows, done, asked, offsets, reaches, addressOf);
          done += rows;
        }
        results.set(window.rows, this.#copy(point, window.planes, addressOf));
      }
      return results;
    } finally {
      space.free();
    }
  }

  /** Rows [from, from + rows) of the queries go into the planes, after `seen` others. */
  #block(
    point: SensePoint,
    from: number,
    rows: number,
    seen: number,
    asked: ReadonlySet<Plane>,
    offsets: readonly number[],
    reaches: readonly Reach[],
    addressOf: (plane: Plane, head: number) => number,
  ): void {
    const { sequence, layer } = point;
    const { kvHeads, heads, headDim } = this.#config;
    const { memory } = this.#kernels;
    const queries = point.queries!;
    const group = this.#group;
    const perItem = Math.max(1, Math.floor(QUERIES_PER_ITEM / group));
    const rowItems = Math.ceil(rows / perItem);
    let ranges = 0;
    let floats = 0;
    for (let head = 0; head < kvHeads; head++) {
      const entries = sequence.entries(layer, head);
      ranges += Math.ceil(entries / ENTRIES_PER_ITEM);
      floats += lineOf(entries) * group * rows;
    }
    const space = new Space(memory);
    try {
      const norms = space.alloc(rows * heads * 8);
      const scores = space.alloc(floats * 4);
      const positions = space.alloc(rows * 4);
      const shifts = sequence.shifts();
      const turns = space.alloc(rowItems * shifts.length * TURN_BYTES);
      const items = space.alloc(Math.max(kvHeads * rowItems * ATTEND_BYTES, ranges * SENSE_BYTES));
      const at = queries.positions.subarray(from, from + rows);
      // Entries after the last one that is seen get zeros, which only a mean takes notice of.
      const last = asked.has('mean') ? Number.POSITIVE_INFINITY : at.reduce((a, b) => Math.max(a, b), 0);
      const tables = Array.from(shifts, shift => this.#table(layer, at, shift, space));
      memory.i32.set(at, positions / 4);
      const { rotary } = this.#records.ropeOf(layer);
      let pair = turns / 4;
      for (let item = 0; item < rowItems; item++) {
        for (const [s, shift] of shifts.entries()) {
          memory.i32[pair++] = shift;
          memory.i32[pair++] = tables[s]! + item * perItem * rotary * 4;
        }
      }
      this.#records.begin(sequence, layer, queries.address + from * heads * headDim * 4, positions);
      const scoresOf = (head: number) => scores + offsets[head]! * rows * 4;
      const normsOf = (head: number) => norms + head * rows * group * 8;
      let item = items;
      for (let head = 0; head < kvHeads; head++) {
        const { refs } = reaches[head]!.until(last);
        const line = lineOf(sequence.entries(layer, head));
        for (let i = 0; i < rowItems; i++, item += ATTEND_BYTES) {
          const row = i * perItem;
          const count = Math.min(perItem, rows - row);
          const turn = turns + i * shifts.length * TURN_BYTES;
          const to = scoresOf(head) + row * group * line * 4;
          this.#records.rows(item, head, 0, refs, row, count, turn, normsOf(head) + row * group * 8, to, line);
        }
      }
      this.#kernels.run(KIND_SENSE_ROWS, items, kvHeads * rowItems);
      item = items;
      for (let head = 0; head < kvHeads; head++) {
        const { entries } = reaches[head]!.until(last);
        const line = lineOf(sequence.entries(layer, head));
        for (let first = 0; first < entries; first += ENTRIES_PER_ITEM, item += SENSE_BYTES) {
          const end = Math.min(entries, first + ENTRIES_PER_ITEM);
          this.#records.entries(item, scoresOf(head), normsOf(head), rows, first, end, line, seen);
          for (const plane of asked) this.#records.plane(item, plane, addressOf(plane, head));
        }
      }
      this.#kernels.run(KIND_SENSE, items, (item - items) / SENSE_BYTES);
    } finally {
      space.free();
    }
  }

  /** Rotary table of rows at these positions, moved against a shift: f32 [rows][rotary]. */
  #table(layer: number, positions: Int32Array, shift: number, space: Space): number {
    const rope = this.#records.ropeOf(layer);
    const first = positions[0]!;
    if (first >= shift && positions.every((position, i) => position === first + i)) return rope.row(first - shift);
    // A row before the shift sees none of those entries, so any angle will do.
    const moved = positions.map(position => Math.max(0, position - shift));
    const table = space.alloc(positions.length * rope.rotary * 4);
    rope.gather(moved, 0, table);
    return table;
  }

  #copy(
    { sequence, layer }: SensePoint,
    asked: ReadonlySet<Plane>,
    addressOf: (plane: Plane, head: number) => number,
  ): Statistics {
    const { f32 } = this.#kernels.memory;
    const statistics: Statistics = {};
    for (const plane of asked) {
      const heads: Float32Array[] = [];
      for (let head = 0; head < this.#config.kvHeads; head++) {
        const entries = sequence.entries(layer, head);
        const at = addressOf(plane, head) / 4;
        const line = lineOf(entries);
        for (let g = 0; g < this.#group; g++) heads.push(f32.slice(at + g * line, at + g * line + entries));
      }
      statistics[plane] = heads;
    }
    return statistics;
  }
}
