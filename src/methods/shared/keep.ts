import type { CacheLayer, KeepAction, PerHead, PromptLayer } from '../types.ts';
import { topK } from './top-k.ts';

/**
 * Keeps in each KV head its best entries before the last `window`, and those: `budget` in all (one for all heads, or one a
 * head). Nothing where nothing would go.
 * @param scores f32[entries - window] or longer; what lies in the window is not looked at
 * @param layer this one, or one before it
 */
export function keepBest(
  at: PromptLayer,
  scores: PerHead,
  budget: number | readonly number[],
  window: number,
  layer = at.layer,
): KeepAction[] {
  let dropped = false;
  const entries = scores.map((score, head) => {
    const held = at.entries(head, layer);
    const recent = Math.min(window, held);
    const limit = typeof budget === 'number' ? budget : budget[head]!;
    if (limit < held) dropped = true;
    return withLast(topK(score.subarray(0, held - recent), limit - recent), recent, held);
  });
  return dropped ? [{ do: 'keep', layer, entries }] : [];
}

/** Ascending entries before the last `recent` of `held`, followed by those. */
export function withLast(entries: Uint32Array, recent: number, held: number): Uint32Array {
  const out = new Uint32Array(entries.length + recent);
  out.set(entries);
  for (let i = 0; i < recent; i++) out[entries.length + i] = held - recent + i;
  return out;
}

/** Keeps all entries of a layer: exact ones that lie scattered over pages that others have left move together. */
export function keepAll(at: CacheLayer, layer = at.layer): KeepAction {
  const every = (head: number) => Uint32Array.from({ length: at.entries(head, layer) }, (_, i) => i);
  return { do: 'keep', layer, entries: Array.from({ length: at.model.kvHeads }, (_, head) => every(head)) };
}
