import type { CacheSequence } from '../../cache/sequence.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { runForced } from '../score.ts';
import { calibrationTokens } from './text.ts';

/** Tokens of a window, each from an empty cache; its first ones are sinks, unlike all others. */
const WINDOW = 512;
const WINDOWS = 8;
export const SINKS = 4;
/** Fewer tokens tell nothing of a channel. */
const LEAST_TOKENS = 64;

/** How a text is cut: `count` windows of `size` tokens, from its start. Raises `invalid_request` where it is too short. */
export function windowsOf({ tokenizer, info }: LoadedModel, text: string) {
  const tokens = calibrationTokens(tokenizer, text, LEAST_TOKENS);
  const size = Math.min(WINDOW, info.context, tokens.length);
  return { tokens, size, count: Math.max(1, Math.min(WINDOWS, Math.floor(tokens.length / size))) };
}

/** Runs the windows one by one; `use` sees each in the cache, in f32, keys before RoPE. */
export async function eachWindow(
  model: LoadedModel,
  { tokens, size, count }: ReturnType<typeof windowsOf>,
  onProgress: (done: number, total: number) => void | Promise<void>,
  use: (sequence: CacheSequence, window: number) => void,
): Promise<void> {
  for (let window = 0; window < count; window++) {
    const sequence = model.cache.create({
      owner: 'calibrate',
      pages: { formatK: 'f32', formatV: 'f32', keysUnrotated: true },
    });
    try {
      const slice = tokens.slice(window * size, (window + 1) * size);
      await runForced(model.forward, sequence, slice, 'token', Infinity, () => {});
      use(sequence, window);
    } finally {
      sequence.free();
    }
    await onProgress(window + 1, count);
  }
}
