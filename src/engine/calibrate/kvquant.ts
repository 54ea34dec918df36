import { type CalibrationRows, calibrateKvquant as calibrateRows } from '../../methods/calibrate/kvquant.ts';
import type { KvquantProfile } from '../../methods/profiles.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { eachWindow, SINKS, windowsOf } from './windows.ts';

/**
 * Ranges and codebooks of keys and values over a calibration text (KVQuant, sections 3.2 to 3.5), without its sinks, which
 * KVQuant keeps exact. All elements weigh alike: there are no gradients here.
 */
export async function calibrateKvquant(
  model: LoadedModel,
  text: string,
  onProgress: (done: number, total: number) => void | Promise<void> = () => {},
): Promise<KvquantProfile> {
  const { shape } = model;
  const windows = windowsOf(model, text);
  const width = shape.kvHeads * shape.headDim;
  const each = windows.size - SINKS;
  const rows: CalibrationRows[] = Array.from({ length: shape.layers }, () => ({
    k: new Float32Array(windows.count * each * width),
    v: new Float32Array(windows.count * each * width),
  }));
  await eachWindow(model, windows, onProgress, (sequence, window) => {
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
  });
  return calibrateRows(rows, {
    kvHeads: shape.kvHeads,
    headDim: shape.headDim,
    fingerprint: shape.fingerprint,
  });
}
