import {
  APPEND_BYTES,
  APPEND_CELL,
  APPEND_FIRST,
  APPEND_K,
  APPEND_LAYOUT,
  APPEND_LAYOUTS,
  APPEND_ROWS,
  APPEND_STRIDE,
  APPEND_TURN,
  APPEND_V,
  KIND_APPEND,
} from '../../kernels/abi.ts';
import type { Content } from './content.ts';
import type { EntryRows } from './entry-rows.ts';
import { Ref } from './ref-list.ts';

/** Rows written in one run of the kernels. */
const BATCH = 64;

const ref = new Ref();

/** Writes rows of exact pages where they stand, keys as they are given; columns stay. Its work space is there from the start, so it cannot fail. */
export class RowWriter {
  readonly #content: Content;
  readonly #bytes: number;
  readonly #work: number;

  /** Raises `memory_limit` where there is no work space: records, K and V rows, and a rotary table that turns nothing. */
  constructor(c: Content) {
    const { shape, memory } = c.storage;
    this.#content = c;
    this.#bytes = BATCH * (APPEND_BYTES + 2 * shape.headDim * 4) + shape.rotary * 4;
    this.#work = memory.alloc(this.#bytes);
  }

  free(): void {
    this.#content.storage.memory.free(this.#work, this.#bytes);
  }

  /** @param k, v f32 [targets, headDim], for pages that nobody else refers to */
  write(view: number, where: EntryRows, targets: Uint32Array, k: Float32Array, v: Float32Array): void {
    const c = this.#content;
    const { memory, kernels, layouts, shape } = c.storage;
    const { headDim, rotary } = shape;
    const { u32, f32 } = memory;
    if (c.undo) for (const page of new Set(targets.map(n => c.pageAt(view, where.record[n]!)))) c.undo.page(page);
    const work = this.#work;
    const rowsK = work + BATCH * APPEND_BYTES;
    const rowsV = rowsK + BATCH * headDim * 4;
    const still = rowsV + BATCH * headDim * 4;
    f32.fill(1, still / 4, still / 4 + rotary / 2);
    f32.fill(0, still / 4 + rotary / 2, still / 4 + rotary);
    for (let from = 0; from < targets.length; from += BATCH) {
      const count = Math.min(BATCH, targets.length - from);
      f32.set(k.subarray(from * headDim, (from + count) * headDim), rowsK / 4);
      f32.set(v.subarray(from * headDim, (from + count) * headDim), rowsV / 4);
      for (let n = 0; n < count; n++) {
        const target = targets[from + n]!;
        ref.load(memory, c.ref(view, where.record[target]!));
        const at = (work + n * APPEND_BYTES) >>> 2;
        u32[at + APPEND_K / 4] = rowsK + n * headDim * 4;
        u32[at + APPEND_V / 4] = rowsV + n * headDim * 4;
        u32[at + APPEND_STRIDE / 4] = headDim;
        u32[at + APPEND_ROWS / 4] = 1;
        u32[at + APPEND_CELL / 4] = ref.cell;
        u32[at + APPEND_LAYOUT / 4] = ref.layout;
        u32[at + APPEND_FIRST / 4] = where.row[target]!;
        u32[at + APPEND_TURN / 4] = still;
        u32[at + APPEND_LAYOUTS / 4] = layouts.address;
      }
      // An appended row's bias is 0.
      const biases = Array.from({ length: count }, (_, n) => biasAt(c, view, where, targets[from + n]!));
      const before = biases.map(at => (at < 0 ? 0 : f32[at]!));
      kernels.run(KIND_APPEND, work, count);
      for (const [n, at] of biases.entries()) if (at >= 0) f32[at] = before[n]!;
    }
  }
}

/** Index in f32 of an entry's bias; -1 where its page has none. */
export function biasAt(c: Content, view: number, { record, row }: EntryRows, entry: number): number {
  ref.load(c.storage.memory, c.ref(view, record[entry]!));
  const column = c.storage.layouts.get(ref.layout).columns.get('bias');
  return column === undefined ? -1 : ((ref.cell + column) >>> 2) + row[entry]!;
}
