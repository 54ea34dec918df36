import { PAGE_TOKENS } from '../../../kernels/abi.ts';
import { topK } from '../shared/top-k.ts';
import type { CacheLayer } from '../types.ts';

/** Numbers of the exact entries of a view, ascending. */
export function exactEntries(at: CacheLayer, head: number): number[] {
  const entries: number[] = [];
  for (const [from, to] of at.exact(head)) for (let entry = from; entry < to; entry++) entries.push(entry);
  return entries;
}

/** Parts `entries` (ascending) into the `count` of the lowest scores, the later of equal ones, and the others. */
export function lowest(
  entries: readonly number[],
  score: (entry: number) => number,
  count: number,
): { readonly low: Uint32Array; readonly high: Uint32Array } {
  const best = new Set(topK(Float32Array.from(entries, score), entries.length - count));
  return {
    low: Uint32Array.from(entries.filter((_, i) => !best.has(i))),
    high: Uint32Array.from(entries.filter((_, i) => best.has(i))),
  };
}

/** n rounded to whole pages, the nearest. */
export function nearestPages(n: number): number {
  return Math.round(n / PAGE_TOKENS) * PAGE_TOKENS;
}

/** Greatest magnitude of each channel, of a range signal: minima first. */
export function magnitudes(ranges: Float32Array): Float32Array {
  const width = ranges.length / 2;
  return Float32Array.from({ length: width }, (_, c) => {
    const most = Math.max(-ranges[c]!, ranges[width + c]!);
    return Number.isFinite(most) ? most : 0;
  });
}
