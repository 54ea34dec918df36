import { type Importance, importanceRecorder, prefixProfile } from '../../methods/calibrate/prefixkv.ts';
import type { PrefixProfile } from '../../methods/profiles.ts';
import { LayerPrefill } from '../layer-prefill.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { Program } from '../program/program.ts';
import { Run } from '../program/run.ts';
import { calibrationTokens } from './text.ts';

/** Tokens of a prompt, each from an empty cache. */
const PROMPT = 1024;
const PROMPTS = 4;
/** Of fewer tokens the protected ones are more than the least share. */
const LEAST_TOKENS = 128;

/** How much of its cache each layer needs for the same share of attention, on prompts from a text (PrefixKV, section 4.3). */
export async function calibratePrefix(
  model: LoadedModel,
  text: string,
  onProgress: (done: number, total: number) => void | Promise<void> = () => {},
): Promise<PrefixProfile> {
  const { shape, forward, tokenizer, info } = model;
  const tokens = calibrationTokens(tokenizer, text, LEAST_TOKENS);
  const size = Math.min(PROMPT, info.context, tokens.length);
  const count = Math.min(PROMPTS, Math.floor(tokens.length / size));
  const prompts: Importance[] = [];
  for (let n = 0; n < count; n++) {
    const found: Importance = { sum: [], average: [] };
    const program = new Program('', [{ name: 'calibrate', policy: importanceRecorder(found) }], shape, false);
    const sequence = model.cache.create({ owner: 'calibrate', pages: program.pages('f32') });
    const run = new Run(program, sequence, forward.recipes, 0);
    const prefill = new LayerPrefill(forward, sequence, tokens.slice(n * size, (n + 1) * size), 0, run);
    try {
      while (!(await prefill.next()));
    } finally {
      prefill.dispose();
      sequence.free();
    }
    prompts.push(found);
    await onProgress(n + 1, count);
  }
  return prefixProfile(prompts, shape);
}
