import { KvasirError } from '../../errors.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { calibrateKvquant } from './kvquant.ts';
import { calibrateRazor } from './razor.ts';

/** Kinds of profiles that can be made for a model. */
export const CALIBRATIONS = ['razor-attention', 'kvquant'] as const;

/** Makes a profile and gives it to the model. `text` is what calibration reads, where the kind needs any. */
export async function calibrate(
  model: LoadedModel,
  kind: string,
  text: string,
  onProgress?: (done: number, total: number) => void | Promise<void>,
): Promise<unknown> {
  const profile =
    kind === 'razor-attention'
      ? await calibrateRazor(model, onProgress)
      : kind === 'kvquant'
        ? await calibrateKvquant(model, text, onProgress)
        : null;
  if (!profile)
    throw new KvasirError('invalid_request', 'no such profile can be made', {
      field: 'method',
      value: kind,
      allowed: CALIBRATIONS,
    });
  model.setProfile(kind, profile);
  return profile;
}
