import { KvasirError } from '../../errors.ts';
import type { Forward } from '../forward.ts';

type Range = readonly [from: number, to: number];

/**
 * Embeddings of passages of a text: the mean of the model's input embeddings of their tokens, of unit length (EpiCache, section 3:
 * one of the three embeddings that its code has). Runs no layer.
 * @param ranges [from, to) of `tokens`, none empty
 * @returns f32 [hidden] by range
 */
export async function embedPassages(
  forward: Forward,
  tokens: ArrayLike<number>,
  ranges: readonly Range[],
): Promise<Float32Array[]> {
  const bad = ranges.find(([from, to]) => !(from >= 0 && from < to && to <= tokens.length));
  if (bad)
    throw new KvasirError('invalid_request', 'A passage must have tokens of the text.', {
      field: 'passages',
      value: bad,
      allowed: `ranges of ${tokens.length} tokens, none empty`,
    });
  const embeddings: Float32Array[] = [];
  for (const range of ranges) embeddings.push(await embed(forward, tokens, range));
  return embeddings;
}

async function embed(forward: Forward, tokens: ArrayLike<number>, [first, end]: Range): Promise<Float32Array> {
  const { workspace } = forward;
  const width = workspace.config.hidden;
  const sum = new Float64Array(width);
  for (let from = first; from < end; from += workspace.tile) {
    const rows = Math.min(workspace.tile, end - from);
    await forward.embed([{ tokens, from, rows }], workspace.rows, 0);
    const at = workspace.rows.hidden / 4;
    const hidden = workspace.memory.f32.subarray(at, at + rows * width);
    for (let row = 0, i = 0; row < rows; row++) for (let c = 0; c < width; c++) sum[c]! += hidden[i++]!;
  }
  const norm = Math.hypot(...sum);
  return Float32Array.from(sum, x => (norm > 0 ? x / norm : 0));
}
