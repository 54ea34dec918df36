import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { REF_BYTES } from '../../kernels/abi.ts';
import { hasRow } from './bits.ts';
import { KvCache } from './cache.ts';
import { Ref } from './ref-list.ts';
import type { CacheSequence } from './sequence.ts';
import { openBackend } from './testing-backends.ts';
import { appendRows, type Model, numbers } from './testing-model.ts';

let backend: Awaited<ReturnType<typeof openBackend>>;
let cache: KvCache;
const random = numbers(17);
const below = (n: number) => Math.floor(((random() + 1) / 2) * n);

beforeAll(async () => {
  backend = await openBackend('wasm');
});
afterEach(() => cache.dispose());
afterAll(() => backend.kernels.dispose());

function open(rows: number): CacheSequence {
  const shape = { slots: 1, kvHeads: 1, headDim: 8, rotary: 8 };
  cache = new KvCache({ ...backend, shape, limit: 8 << 20 });
  const sequence = cache.create({ owner: 'me', pages: { formatK: 'f32', formatV: 'f32' } });
  appendRows(cache, sequence, [[]] as Model, rows, random);
  return sequence;
}

/** Positions of the live rows of records at an address, in order. */
function positionsAt(sequence: CacheSequence, address: number, count: number): number[] {
  const ref = new Ref();
  const positions: number[] = [];
  for (let i = 0; i < count; i++) {
    ref.load(cache.memory, address + i * REF_BYTES);
    for (let row = 0; row < 64; row++)
      if (hasRow(ref.lo, ref.hi, row)) positions.push(sequence.content.storedPosition(ref, row) + ref.shift);
  }
  return positions;
}

/** Runs `use` with room for the records of the view. */
function withRoom<T>(sequence: CacheSequence, use: (address: number) => T): T {
  const bytes = sequence.refCount(0, 0) * REF_BYTES;
  const address = cache.memory.alloc(bytes);
  try {
    return use(address);
  } finally {
    cache.memory.free(address, bytes);
  }
}

test.each([1, 63, 64, 65, 300])('ranges of %i entries, pages with holes among them', rows => {
  const sequence = open(rows);
  for (let n = 0; n < 6; n++) {
    const entries = sequence.entries(0, 0);
    const kept = Array.from({ length: entries }, (_, i) => i).filter(i => i === 0 || random() < 0.6);
    sequence.prepareKeep([{ slot: 0, head: 0, ranges: kept.map(i => [i, i + 1] as const) }], { threshold: 0 }).apply();
    const positions = [...sequence.positions(0, 0)];
    const ranges: number[] = [];
    for (let at = below(3); at < positions.length; at += 1 + below(9)) {
      const to = Math.min(positions.length, at + 1 + below(40));
      ranges.push(at, to);
      at = to;
    }
    const wanted = positions.filter((_, i) => ranges.some((from, r) => r % 2 === 0 && i >= from && i < ranges[r + 1]!));
    const found = withRoom(sequence, address => {
      const count = sequence.writeRanges(0, 0, Uint32Array.from(ranges), ranges.length / 2, address);
      expect(count).toBeLessThanOrEqual(sequence.refCount(0, 0));
      return positionsAt(sequence, address, count);
    });
    expect(found).toEqual(wanted);
  }
});

test('pieces: the named ones of what has been fetched, and all that never left', () => {
  const sequence = open(200);
  const units = Array.from({ length: 10 }, (_, u) => Uint32Array.from({ length: 16 }, (_, i) => 4 + u * 16 + i));
  sequence.preparePark([{ slot: 0, head: 0, units, place: 'memory', index: { kind: 'bounds', halvings: 2 } }]).apply();
  // Quarters of units, four rows each; what was fetched before stays, unread.
  const piece = (p: number) => Array.from({ length: 4 }, (_, i) => 4 + p * 4 + i);
  sequence.fetch(0, 0, Uint32Array.of(1, 2, 9), 100);
  sequence.fetch(0, 0, Uint32Array.of(2, 30), 100);
  expect(sequence.fetchedEntries(0, 0)).toBe(16);
  const rest = [...Array.from({ length: 4 }, (_, i) => i), ...Array.from({ length: 36 }, (_, i) => 164 + i)];
  const found = withRoom(sequence, address =>
    positionsAt(sequence, address, sequence.writePieces(0, 0, Uint32Array.of(2, 30), 2, address)),
  );
  expect(found.sort((a, b) => a - b)).toEqual([...piece(2), ...piece(30), ...rest].sort((a, b) => a - b));
  const keys = sequence.read(0, 0).k;
  const some = sequence.readKeys(0, 0, 5, 37);
  expect(some).toEqual(keys.subarray(5 * 8, 37 * 8));
});
