import { topK } from '../shared/top-k.ts';

/** Signatures of KVCrush: strings of bits, one 0 or 1 a byte, side by side; and who stands for whom by them. */

export const ANCHORS = ['random', 'zeros', 'ones', 'alternating', 'mean'] as const;
export type Anchor = (typeof ANCHORS)[number];

/**
 * What signatures are held against, [bits].
 * @param signatures [items][bits]; `mean` has a 1 where more than half of them do
 */
export function anchorOf(kind: Anchor, signatures: Uint8Array, bits: number, random?: () => number): Uint8Array {
  const anchor = new Uint8Array(bits);
  switch (kind) {
    case 'zeros':
      return anchor;
    case 'ones':
      return anchor.fill(1);
    case 'alternating':
      return anchor.map((_, bit) => bit % 2);
    case 'random':
      return anchor.map(() => (random!() < 0.5 ? 0 : 1));
  }
  const counts = new Uint32Array(bits);
  for (let i = 0; i < signatures.length; i++) counts[i % bits]! += signatures[i]!;
  return anchor.map((_, bit) => (2 * bits * counts[bit]! > signatures.length ? 1 : 0));
}

/** Hamming distance of each signature to the anchor. */
export function distances(signatures: Uint8Array, anchor: Uint8Array): Uint32Array {
  const bits = anchor.length;
  const out = new Uint32Array(signatures.length / bits);
  for (let i = 0, at = 0; i < out.length; i++)
    for (let bit = 0; bit < bits; bit++, at++) if (signatures[at] !== anchor[bit]) out[i]!++;
  return out;
}

/**
 * The best `room - count` items, and `count` of the others at even steps of their order by distance; ascending. Distances take
 * few values, so ties are the rule: the higher score comes first, then the earlier item.
 */
export function withStandIns(scores: Float32Array, distance: Uint32Array, room: number, count: number): Uint32Array {
  const best = topK(scores, room - count);
  const taken = new Set(best);
  const others = Array.from(scores.keys())
    .filter(i => !taken.has(i))
    .sort((a, b) => distance[a]! - distance[b]! || scores[b]! - scores[a]! || a - b);
  const stride = Math.max(1, Math.floor(others.length / count));
  return Uint32Array.from([...best, ...others.filter((_, rank) => rank % stride === 0).slice(0, count)]).sort();
}
