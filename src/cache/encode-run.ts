import {
  ENCODE_BYTES,
  ENCODE_CELL,
  ENCODE_CLAMPED,
  ENCODE_K,
  ENCODE_LAYOUT,
  ENCODE_LAYOUTS,
  ENCODE_ROWS,
  ENCODE_V,
  KIND_ENCODE,
  KIND_READ,
  PAGE_TOKENS,
  READ_BYTES,
  READ_CELL,
  READ_COUNT,
  READ_FIRST,
  READ_K,
  READ_LAYOUT,
  READ_LAYOUTS,
  READ_V,
} from '../../kernels/abi.ts';
import type { Content } from './content.ts';
import {
  RUN_CELL,
  RUN_FIRST,
  RUN_LAYOUT,
  RUN_ROWS,
  RUN_TO,
  RUN_WORDS,
  type Target,
  type Targets,
} from './encode-targets.ts';

/** Pages that are decoded and encoded in one run: enough for all threads, little enough for the processor's cache. */
const BATCH = 16;

/**
 * Decodes the rows of all targets and encodes them into their pages, batch by batch, so that no more than a batch is ever
 * held as f32. Raises `memory_limit` where there is no work space.
 */
export function encodeTargets(c: Content, targets: Targets): void {
  const { list, runs } = targets;
  if (list.length === 0) return;
  const { memory, kernels, layouts, pages, shape } = c.storage;
  const plane = PAGE_TOKENS * shape.headDim * 4;
  const batch = Math.min(BATCH, list.length);
  let reads = 0;
  for (let t = 0; t < list.length; t += BATCH) {
    reads = Math.max(reads, list[Math.min(t + BATCH, list.length) - 1]!.runsEnd - list[t]!.runs);
  }
  const bytes = batch * (2 * plane + ENCODE_BYTES) + reads * READ_BYTES;
  const work = memory.alloc(bytes);
  try {
    const readItems = work + batch * 2 * plane;
    const encodeItems = readItems + reads * READ_BYTES;
    for (let from = 0; from < list.length; from += BATCH) {
      const to = Math.min(from + BATCH, list.length);
      const { u32 } = memory;
      let at = readItems >>> 2;
      for (let t = from; t < to; t++) {
        const { job, runs: first, runsEnd } = list[t]!;
        const rows = work + (t - from) * 2 * plane;
        for (let run = first * RUN_WORDS; run < runsEnd * RUN_WORDS; run += RUN_WORDS) {
          const row = rows + runs[run + RUN_TO]! * shape.headDim * 4;
          u32[at + READ_CELL / 4] = runs[run + RUN_CELL]!;
          u32[at + READ_LAYOUT / 4] = runs[run + RUN_LAYOUT]!;
          u32[at + READ_FIRST / 4] = runs[run + RUN_FIRST]!;
          u32[at + READ_COUNT / 4] = runs[run + RUN_ROWS]!;
          u32[at + READ_K / 4] = job.k === undefined ? 0 : row;
          u32[at + READ_V / 4] = job.v === undefined ? 0 : row + plane;
          u32[at + READ_LAYOUTS / 4] = layouts.address;
          at += READ_BYTES / 4;
        }
      }
      kernels.run(KIND_READ, readItems, ((at << 2) - readItems) / READ_BYTES);
      at = encodeItems >>> 2;
      for (let t = from; t < to; t++) {
        const target = list[t]!;
        const rows = work + (t - from) * 2 * plane;
        if (target.copied !== 0) {
          fillHoles(memory.f32, rows >>> 2, target, runs, shape.headDim);
          fillHoles(memory.f32, (rows + plane) >>> 2, target, runs, shape.headDim);
        }
        u32.fill(0, at, at + ENCODE_BYTES / 4);
        u32[at + ENCODE_K / 4] = target.job.k === undefined ? 0 : rows;
        u32[at + ENCODE_V / 4] = target.job.v === undefined ? 0 : rows + plane;
        u32[at + ENCODE_ROWS / 4] = target.rows;
        u32[at + ENCODE_CELL / 4] = pages.address[target.page]!;
        u32[at + ENCODE_LAYOUT / 4] = target.layout.id;
        u32[at + ENCODE_LAYOUTS / 4] = layouts.address;
        at += ENCODE_BYTES / 4;
      }
      kernels.run(KIND_ENCODE, encodeItems, to - from);
      for (let t = from; t < to; t++)
        c.storage.clamped += memory.u32[(encodeItems + (t - from) * ENCODE_BYTES + ENCODE_CLAMPED) >>> 2]!;
    }
  } finally {
    memory.free(work, bytes);
  }
}

/** Rows that nobody sees repeat one that is seen, so that they widen no range. */
function fillHoles(f32: Float32Array, rows: number, target: Target, runs: readonly number[], headDim: number): void {
  let filled = 0;
  for (let run = target.runs * RUN_WORDS; run < target.runsEnd * RUN_WORDS; run += RUN_WORDS) {
    const first = runs[run + RUN_TO]!;
    const source = rows + (filled === 0 ? first : filled - 1) * headDim;
    for (let row = filled; row < first; row++) f32.copyWithin(rows + row * headDim, source, source + headDim);
    filled = first + runs[run + RUN_ROWS]!;
  }
}
