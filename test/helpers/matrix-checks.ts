import { expect } from 'vitest';
import type { ReadResult } from '../../src/cache/types.ts';
import type { Method } from '../../src/methods/types.ts';
import type { Written } from '../recipes.ts';

/** What the conformance matrix asks of a cache at rest. */

export function eachView(written: Written, use: (layer: number, head: number) => void): void {
  const { slots, kvHeads } = written.model.cache.shape;
  for (let slot = 0; slot < slots; slot++) for (let head = 0; head < kvHeads; head++) use(slot, head);
}

/** Positions by view, as text: a difference is told without comparing arrays element by element. */
export function snapshot(written: Written): string[] {
  const views: string[] = [];
  eachView(written, (slot, head) => views.push(written.sequence.positions(slot, head).join(' ')));
  return views;
}

/** What is stored, decoded: by view. */
export function viewsOf(written: Written): readonly ReadResult[] {
  const views: ReadResult[] = [];
  eachView(written, (slot, head) => views.push(written.sequence.read(slot, head)));
  return views;
}

/** Bit for bit the same rows at the same positions. */
export function expectSame(views: readonly ReadResult[], others: readonly ReadResult[]): void {
  expect(views.map(({ positions }) => positions.join(' '))).toEqual(others.map(({ positions }) => positions.join(' ')));
  for (const [i, { k, v }] of views.entries()) {
    expect(difference(k, others[i]!.k)).toBe(0);
    expect(difference(v, others[i]!.v)).toBe(0);
  }
}

/** Greatest difference of two rows of logits; NaN where either has one. */
export function difference(a: Float32Array, b: Float32Array): number {
  let most = 0;
  for (let i = 0; i < b.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!));
  return most;
}

/** No token twice, none that has not been seen; what is renumbered counts on without a gap. */
export function checkPositions(written: Written, method: Method): void {
  const { seen } = written.run;
  eachView(written, (slot, head) => {
    const positions = written.sequence.positions(slot, head);
    expect(positions.length).toBeGreaterThan(0);
    if (method.traits.renumbers) {
      expect(positions).toEqual(Int32Array.from(positions, (_, i) => i));
      return;
    }
    expect(new Set(positions).size).toBe(positions.length);
    expect(Math.max(...positions)).toBeLessThan(seen);
    expect(Math.min(...positions)).toBeGreaterThanOrEqual(0);
  });
}
