import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KvasirError } from '../../errors.ts';
import { Arena } from './arena.ts';
import { CHUNK_BYTES } from './chunks.ts';
import { MAX_SLAB_BLOCK, slabChunks } from './slabs.ts';

const MIB = 2 ** 20;

function code(action: () => unknown): string | undefined {
  try {
    action();
  } catch (error) {
    return (error as KvasirError).code;
  }
  return undefined;
}

describe.each([true, false])('an arena, shared: %s', shared => {
  it('hands out aligned blocks that do not overlap, and takes them back', () => {
    const size = fc.oneof(
      fc.integer({ min: 1, max: 300 }),
      fc.constantFrom(8704, 16384, 32768, 33024, 65536, 131_328, MAX_SLAB_BLOCK, MAX_SLAB_BLOCK + 1),
      fc.integer({ min: 1, max: 3 * MIB }),
    );
    const step = fc.record({ size, free: fc.double({ min: 0, max: 1, noNaN: true }), add: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), steps => {
        const arena = new Arena({ limit: 64 * MIB, shared });
        const model: { address: number; size: number; mark: number }[] = [];
        let held = 0;
        let peak = 0;
        for (const [i, { size, free, add }] of steps.entries()) {
          if (add || model.length === 0) {
            const address = tryAlloc(arena, size);
            if (address === undefined) {
              expect(held + size).toBeGreaterThan(20 * MIB);
              continue;
            }
            expect(address % 64).toBe(0);
            expect(address).toBeGreaterThanOrEqual(65536);
            expect(address + size).toBeLessThanOrEqual(arena.u8.length);
            for (const other of model) {
              expect(address + size <= other.address || other.address + other.size <= address).toBe(true);
            }
            model.push({ address, size, mark: i & 255 });
            arena.u8.fill(i & 255, address, address + size);
            held += Math.ceil(size / 64) * 64;
            peak = Math.max(peak, held);
          } else {
            const [block] = model.splice(Math.floor(free * (model.length - 1)), 1);
            expect(arena.u8[block!.address]).toBe(block!.mark);
            expect(arena.u8[block!.address + block!.size - 1]).toBe(block!.mark);
            arena.free(block!.address, block!.size);
            held -= Math.ceil(block!.size / 64) * 64;
            expect(code(() => arena.free(block!.address, block!.size))).toBe('backend_failed');
          }
          expect(arena.held).toBe(held);
          expect(arena.peak).toBe(peak);
        }
        for (const block of model) arena.free(block.address, block.size);
        expect(arena.held).toBe(0);
        // Everything came back: one block can have all of it.
        if (arena.footprint > 65536) arena.alloc(arena.footprint - 65536);
      }),
      { numRuns: 60 },
    );
  });

  it('gives empty slabs to other sizes', () => {
    const arena = new Arena({ limit: 65536 + 8 * MIB, shared });
    const fill = (size: number): number[] => {
      const blocks: number[] = [];
      for (;;) {
        const address = tryAlloc(arena, size);
        if (address === undefined) return blocks;
        blocks.push(address);
      }
    };
    for (const size of [8704, 64, 33024, 200_000, MAX_SLAB_BLOCK, MIB, 136]) {
      const blocks = fill(size);
      expect(blocks.length * size).toBeGreaterThan(0.7 * 8 * MIB);
      for (const address of blocks) arena.free(address, size);
      expect(arena.held).toBe(0);
    }
  });

  it('refuses what it cannot do by name', () => {
    const arena = new Arena({ limit: MIB, shared });
    expect(code(() => arena.alloc(2 * MIB))).toBe('memory_limit');
    const address = arena.alloc(100);
    expect(code(() => arena.free(address + 64, 100))).toBe('backend_failed');
    expect(code(() => arena.free(address + 1, 100))).toBe('backend_failed');
    expect(code(() => arena.free(address, 200))).toBe('backend_failed');
    expect(code(() => arena.free(0, 100))).toBe('backend_failed');
    for (const bytes of [0, -1, 1.5, Number.NaN]) expect(code(() => arena.alloc(bytes))).toBe('backend_failed');
    arena.free(address, 100);
    expect(arena.held).toBe(0);
    for (const limit of [0, -1, Number.NaN, 2 ** 33]) {
      expect(code(() => new Arena({ limit, shared }))).toBe('invalid_request');
    }
  });

  it('keeps what was written when it grows', () => {
    const arena = new Arena({ limit: 64 * MIB, shared });
    const address = arena.alloc(4096);
    const before = arena.buffer;
    arena.u32.fill(0xabcdef01, address / 4, address / 4 + 1024);
    arena.alloc(32 * MIB);
    expect(arena.buffer).not.toBe(before);
    expect(arena.u32.subarray(address / 4, address / 4 + 1024).every(x => x === 0xabcdef01)).toBe(true);
  });
});

it('holds half a million blocks in typed arrays', () => {
  const count = 500_000;
  const arena = new Arena({ limit: 65536 + 400 * MIB });
  const blocks = new Uint32Array(count);
  const start = performance.now();
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < count; i++) blocks[i] = arena.alloc(640);
    expect(arena.held).toBe(count * 640);
    for (let i = 0; i < count; i++) arena.free(blocks[(i * 7919) % count]!, 640);
  }
  expect(arena.held).toBe(0);
  // 2 million operations; generous, the machine may be busy.
  expect(performance.now() - start).toBeLessThan(10_000);
});

it('wastes at most a sixteenth of a slab where that is possible', () => {
  for (let size = 64; size <= MAX_SLAB_BLOCK; size += 64) {
    const bytes = slabChunks(size) * CHUNK_BYTES;
    expect(bytes).toBeGreaterThanOrEqual(size);
    expect((bytes % size) / bytes).toBeLessThanOrEqual(1 / 8);
  }
});

function tryAlloc(arena: Arena, size: number): number | undefined {
  try {
    return arena.alloc(size);
  } catch (error) {
    if (error instanceof KvasirError && error.code === 'memory_limit') return undefined;
    throw error;
  }
}
