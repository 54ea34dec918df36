import { keyMeans } from '../../methods/calibrate/rotatekv.ts';
import type { RotateProfile } from '../../methods/profiles.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { eachWindow, windowsOf } from './windows.ts';

/** Signed means of keys before RoPE over a calibration text (RotateKV, section 4.2), all tokens alike. */
export async function calibrateRotate(
  model: LoadedModel,
  text: string,
  onProgress: (done: number, total: number) => void | Promise<void> = () => {},
): Promise<RotateProfile> {
  const { layers, kvHeads, headDim, fingerprint } = model.shape;
  const windows = windowsOf(model, text);
  const sums = Array.from({ length: layers }, () => new Float64Array(kvHeads * headDim));
  await eachWindow(model, windows, onProgress, sequence => {
    for (const [layer, sum] of sums.entries())
      for (let head = 0; head < kvHeads; head++) {
        const { k } = sequence.read(layer, head);
        for (let i = 0; i < k.length; i++) sum[head * headDim + (i % headDim)]! += k[i]!;
      }
  });
  return keyMeans(sums, windows.count * windows.size, fingerprint);
}
