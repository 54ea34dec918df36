import { KvasirError } from '../../errors.ts';
import { type CalibrationRows, calibrateKvquant as calibrateRows } from '../../methods/calibrate/kvquant.ts';
import type { KvquantProfile } from '../../methods/profiles.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { runForced } from '../score.ts';

/** Tokens of a window, each from an empty cache; its first ones are sinks, which KVQuant keeps exact. */
const WINDOW = 512;
const WINDOWS = 8;
const SINKS = 4;
/** Fewer tokens tell nothing about percentiles. */
const LEAST_TOKENS = 64;

/**
 * Ranges and codebooks of keys and values over a calibration text (KVQuant, sections 3.2 to 3.5). All elements weigh alike:
 * there are no gradients here.
 */
export async function calibrateKvquant(
  model: LoadedModel,
  text: string,
  onProgress: (done: number, total: number) => void | Promise<void> = () => {},
): Promise<KvquantProfile> {
  const { shape, forward, tokenizer, info } = model;
  const tokens = tokenizer.encode(text);
  if (tokens.length < LEAST_TOKENS)
    throw new KvasirError('invalid_request', 'the calibration text is too short', {
      field: 'text',
      value: `${tokens.length} tokens`,
      allowed: `at least ${LEAST_TOKENS} tokens`,
    });
  const size = Math.min(WINDOW, info.context);
  const windows = Math.max(1, Math.min(WINDOWS, Math.floor(tokens.length / size)));
  const width = shape.kvHeads * shape.headDim;
  const each = Math.max(0, Math.min(size, tokens.length) - SINKS);
  const rows: CalibrationRows[] = Array.from({ length: shape.layers }, () => ({
    k: new Float32Array(windows * each * width),
    v: new Float32Array(windows * each * width),
  }));
  for (let window = 0; window < windows; window++) {
    const sequence = model.cache.create({
      owner: 'calibrate',
      pages: { formatK: 'f32', formatV: 'f32', keysUnrotated: true },
    });
    try {
      await runForced(forward, sequence, tokens.slice(window * size, (window + 1) * size), 'token', Infinity, () => {});
      for (const [layer, { k, v }] of rows.entries())
        for (let head = 0; head < shape.kvHeads; head++) {
          const read = sequence.read(layer, head);
          for (let i = 0; i < each; i++) {
            const from = (i + SINKS) * shape.headDim;
            const to = (window * each + i) * width + head * shape.headDim;
            k.set(read.k.subarray(from, from + shape.headDim), to);
            v.set(read.v.subarray(from, from + shape.headDim), to);
          }
        }
    } finally {
      sequence.free();
    }
    await onProgress(window + 1, windows);
  }
  return calibrateRows(rows, {
    kvHeads: shape.kvHeads,
    headDim: shape.headDim,
    fingerprint: shape.fingerprint,
  });
}
