import { KvasirError } from '../../errors.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { calibrateEpicache } from './epicache.ts';
import { calibrateKvquant } from './kvquant.ts';
import { calibratePrefix } from './prefixkv.ts';
import { calibrateRazor } from './razor.ts';
import { calibrateRotate } from './rotatekv.ts';

type Progress = (done: number, total: number) => void | Promise<void>;

interface Calibration {
  /** It reads a text; others make up what they need. */
  readonly text: boolean;
  make(model: LoadedModel, text: string, onProgress?: Progress): Promise<unknown>;
}

const MAKERS: Readonly<Record<string, Calibration>> = {
  'razor-attention': { text: false, make: (model, _, onProgress) => calibrateRazor(model, onProgress) },
  kvquant: { text: true, make: calibrateKvquant },
  prefixkv: { text: true, make: calibratePrefix },
  rotatekv: { text: true, make: calibrateRotate },
  epicache: { text: true, make: calibrateEpicache },
};

/** Kinds of profiles that can be made for a model. */
export const CALIBRATIONS: readonly string[] = Object.keys(MAKERS);

/** Kinds that read a text. */
export const TEXT_CALIBRATIONS: readonly string[] = CALIBRATIONS.filter(kind => MAKERS[kind]!.text);

/** Makes a profile and gives it to the model. `text` is what calibration reads, where the kind needs any. */
export async function calibrate(
  model: LoadedModel,
  kind: string,
  text: string,
  onProgress?: Progress,
): Promise<unknown> {
  if (!CALIBRATIONS.includes(kind))
    throw new KvasirError('invalid_request', 'no such profile can be made', {
      field: 'method',
      value: kind,
      allowed: CALIBRATIONS,
    });
  const profile = await MAKERS[kind]!.make(model, text, onProgress);
  model.setProfile(kind, profile);
  return profile;
}
