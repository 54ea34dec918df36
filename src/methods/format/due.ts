import { PAGE_TOKENS } from '../../../kernels/abi.ts';
import { KvasirError } from '../../errors.ts';
import type { CacheLayer } from '../types.ts';

type Range = readonly [from: number, to: number];

/** n rounded down to whole pages. */
export function floorPages(n: number): number {
  return n - (n % PAGE_TOKENS);
}

/** Exact entries of a view within [from, to), in stretches that fill whole pages; what is left over at their ends waits. */
export function exactBlocks(at: CacheLayer, head: number, from: number, to: number): Range[] {
  const blocks: Range[] = [];
  for (const [a, b] of at.exact(head)) {
    const start = Math.max(a, from);
    const end = start + floorPages(Math.max(0, Math.min(b, to) - start));
    if (end > start) blocks.push([start, end]);
  }
  return blocks;
}

/** Whole pages of a view within [from, to) whose given plane is exact (without one: both planes). */
export function pagesWithin(at: CacheLayer, head: number, from: number, to: number, plane?: 'k' | 'v'): Range[] {
  const blocks: Range[] = [];
  for (const [a, b] of at.fullPages(head, at.layer, plane)) {
    const start = a + Math.ceil(Math.max(0, from - a) / PAGE_TOKENS) * PAGE_TOKENS;
    const end = a + floorPages(Math.max(0, Math.min(b, to) - a));
    if (end > start) blocks.push([start, end]);
  }
  return blocks;
}

/** `ranges` less `holes` (both ascending and disjoint). */
export function without(ranges: readonly Range[], holes: readonly Range[]): Range[] {
  const left: Range[] = [];
  for (const [from, to] of ranges) {
    let start = from;
    for (const [a, b] of holes) {
      if (b <= start || a >= to) continue;
      if (a > start) left.push([start, a]);
      start = b;
    }
    if (start < to) left.push([start, to]);
  }
  return left;
}

/**
 * Channels that share parameters: `group`, or all of a smaller head.
 * @throws KvasirError `invalid_request` where the group does not divide the head size
 */
export function channelGroup(method: string, group: number, headDim: number): number {
  if (headDim <= group) return headDim;
  if (headDim % group === 0) return group;
  throw new KvasirError(
    'invalid_request',
    `${method}: groups of ${group} channels do not divide heads of ${headDim}.`,
    {
      field: 'group',
      value: group,
      allowed: [16, 32, 64].filter(size => headDim % size === 0),
    },
  );
}
