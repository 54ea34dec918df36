import type { CacheSequence } from '../../cache/sequence.ts';
import type { JoinedPlane } from '../../cache/types.ts';
import type { JoinAction, JoinPlane } from '../../methods/types.ts';
import { projectRows } from '../sense/project.ts';
import { Space } from '../sense/space.ts';
import { readEntries } from './view-rows.ts';

/** Rows that are projected in one run. */
const BLOCK_ROWS = 1024;

/** C = X P of the views' rows side by side, and each view's block of P, transposed (xKV, section 3). */
export function projected(
  sequence: CacheSequence,
  { views, entries }: JoinAction,
  { basis, rank, bits, key }: Extract<JoinPlane, { kind: 'project' }>,
  of: 'k' | 'v',
): JoinedPlane {
  const { kernels, memory, shape } = sequence.cache;
  const width = shape.headDim;
  const count = entries[0]!.length;
  const rows = new Float32Array(count * rank);
  const space = new Space(memory);
  try {
    const block = Math.min(BLOCK_ROWS, count);
    const x = space.alloc(views.length * block * width * 4);
    const p = space.alloc(basis.length * 4);
    const out = space.alloc(block * rank * 4);
    memory.f32.set(basis, p / 4);
    for (let from = 0; from < count; from += block) {
      const some = Math.min(block, count - from);
      for (const [n, view] of views.entries())
        readEntries(sequence, view, entries[n]!.subarray(from, from + some), of, x + n * block * width * 4);
      const parts = { address: x, rows: some, rowStride: width, parts: views.length, partStride: block * width, width };
      projectRows(kernels, parts, p, rank, out);
      rows.set(memory.f32.subarray(out / 4, out / 4 + some * rank), from * rank);
    }
  } finally {
    space.free();
  }
  const bases = views.map((_, n) => {
    const values = new Float32Array(rank * width);
    for (let c = 0; c < width; c++)
      for (let r = 0; r < rank; r++) values[r * width + c] = basis[(n * width + c) * rank + r]!;
    return { key: `${key}/${of}/${n}`, values };
  });
  return { format: { kind: 'latent', rank, bits, basis: true, norms: false }, rows, bases };
}
