import type { EpicacheProfile } from '../../methods/profiles.ts';
import type { Policy } from '../../methods/types.ts';
import { LayerPrefill } from '../layer-prefill.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { Program } from '../program/program.ts';
import { Run } from '../program/run.ts';
import { calibrationTokens } from './text.ts';

/** Tokens of the text: a quarter of the public code's, and so are the blocks and the first tokens that all see. */
const SAMPLE = 4096;
const BLOCKS = 4;
const SINK_SHARE = 1 / 32;
/** Tokens whose keys are compared as one vector. */
const WINDOW = 100;
const LEAST_TOKENS = 256;

/** f32 [rows][headDim] by layer and KV head. */
type Keys = Float32Array[][];

/**
 * How little the keys of each layer change when distant text is masked (EpiCache, section 3.3): a text is read whole, and in blocks
 * of which each sees the first tokens, the second half of the block before and itself. The cosine of the keys of 100 tokens, mean
 * over windows and heads. Blocks go as chunks of a prompt that keep just what the next may see, which is that mask exactly.
 */
export async function calibrateEpicache(
  model: LoadedModel,
  text: string,
  onProgress: (done: number, total: number) => void | Promise<void> = () => {},
): Promise<EpicacheProfile> {
  const { tokenizer, info } = model;
  const tokens = calibrationTokens(tokenizer, text, LEAST_TOKENS, Math.min(SAMPLE, info.context));
  const whole = await keysOf(model, tokens, tokens.length);
  await onProgress(1, 2);
  const masked = await keysOf(model, tokens, Math.ceil(tokens.length / BLOCKS));
  await onProgress(2, 2);
  const layers = whole.map((heads, layer) => {
    const cosines = heads.flatMap((keys, head) => windowCosines(keys, masked[layer]![head]!, WINDOW * info.headDim));
    return { similarity: Math.min(1, cosines.reduce((a, b) => a + b, 0) / cosines.length) };
  });
  return { kind: 'epicache', fingerprint: info.fingerprint, layers };
}

/** Keys of all tokens, read in blocks. */
async function keysOf(model: LoadedModel, tokens: readonly number[], block: number): Promise<Keys> {
  const { shape, forward } = model;
  const rows = tokens.length;
  const sinks = Math.ceil(block * SINK_SHARE);
  const keys = Array.from({ length: shape.layers }, () =>
    Array.from({ length: shape.kvHeads }, () => new Float32Array(rows * shape.headDim)),
  );
  const sequence = model.cache.create({ owner: 'calibrate', pages: { formatK: 'f32', formatV: 'f32' } });
  const policy: Policy = {
    chunk: block,
    decide(at) {
      const held = at.entries(0);
      for (const [head, plane] of keys[at.layer]!.entries())
        plane.set(sequence.readKeys(at.layer, head, held - at.rows, held), (at.seen - at.rows) * shape.headDim);
      if (at.last) return [];
      const positions = at.positions(0);
      const after = at.seen - Math.floor(block / 2);
      const all = Uint32Array.from(positions.keys());
      const seen = all.filter(i => positions[i]! < sinks || positions[i]! >= after);
      return [{ do: 'keep', layer: at.layer, entries: Array(shape.kvHeads).fill(seen) }];
    },
  };
  const program = new Program('', [{ name: 'calibrate', policy }], shape, false);
  const prefill = new LayerPrefill(forward, sequence, tokens, 0, new Run(program, sequence, forward.recipes, 0));
  try {
    while (!(await prefill.next()));
  } finally {
    prefill.dispose();
    sequence.free();
  }
  return keys;
}

function windowCosines(a: Float32Array, b: Float32Array, size: number): number[] {
  const cosines: number[] = [];
  for (let from = 0; from < a.length; from += size) {
    let [ab, aa, bb] = [0, 0, 0];
    for (let i = from; i < Math.min(a.length, from + size); i++) {
      ab += a[i]! * b[i]!;
      aa += a[i]! ** 2;
      bb += b[i]! ** 2;
    }
    cosines.push(aa > 0 && bb > 0 ? ab / Math.sqrt(aa * bb) : 0);
  }
  return cosines;
}
