import { topK } from '../shared/top-k.ts';
import type { CacheLayer, PromptLayer, Segment } from '../types.ts';

/** What GUI-KV knows about images in a prompt (arXiv 2510.00536, sections 4.1 and 4.2). */

/** u32: entries of a head whose tokens lie in one of some segments, ascending. */
export function entriesWithin(at: CacheLayer, head: number, segments: readonly Segment[]): Uint32Array {
  const positions = at.positions(head);
  const inside = (position: number) => segments.some(({ from, to }) => from <= position && position < to);
  return Uint32Array.from(positions.keys()).filter(entry => inside(positions[entry]!));
}

/**
 * By position, how much each token of a segment stands out: softmax of its standardised hidden norm (the unbiased deviation) over a temperature. They sum
 * to 1. Only tokens that ran with this prompt have hidden states; nothing where none did.
 * @param norms f32 [rows], of the last tokens seen
 */
export function saliency(
  norms: Float32Array,
  at: Pick<PromptLayer, 'seen' | 'rows'>,
  { from, to }: Segment,
  temperature: number,
): Map<number, number> {
  const start = at.seen - at.rows;
  const first = Math.max(from, start);
  const values = Array.from(norms.subarray(first - start, Math.max(first, to) - start));
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const deviation = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / Math.max(1, values.length - 1));
  const z = values.map(x => (x - mean) / (deviation + 1e-8) / temperature);
  const top = Math.max(...z);
  const weights = z.map(x => Math.exp(x - top));
  const sum = weights.reduce((a, b) => a + b, 0);
  return new Map(weights.map((weight, i) => [first + i, weight / sum]));
}

/** Places of the given share of residuals, rounded down, that are smallest: those tokens are shown again later. */
export function redundant(residuals: Float32Array, share: number): Uint32Array {
  return topK(
    residuals.map(x => -x),
    Math.floor(share * residuals.length + 1e-9),
  );
}
