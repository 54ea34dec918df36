import type { LoadedModel } from '../../engine/loaded-model.ts';
import { logSumExp } from '../../engine/sampler.ts';
import { KvasirError } from '../../errors.ts';
import type { CacheSetting } from '../cache-setting.ts';
import { Feed, type Pause } from '../feed.ts';

export interface PerplexityResult {
  /** Tokens predicted. */
  readonly tokens: number;
  /** Negative log-likelihood of all of them, nats. */
  readonly nll: number;
  /** exp(nll / tokens) */
  readonly perplexity: number;
  /** nll in bits a byte of the predicted tokens' text. */
  readonly bitsPerByte: number;
}

/**
 * Windows [i * size, (i + 1) * size] of a text: each predicts its tokens from the second on, and its last one is the first
 * of the next window, so that every token but the first is predicted once.
 */
export function windowsOf(tokens: readonly number[], size: number, most = Number.POSITIVE_INFINITY): number[][] {
  if (!(Number.isInteger(size) && size >= 1))
    throw new KvasirError('invalid_request', 'a window needs at least one token', { field: 'window', value: size });
  const windows: number[][] = [];
  for (let from = 0; from < tokens.length - 1 && windows.length < most; from += size)
    windows.push(tokens.slice(from, from + size + 1));
  return windows;
}

/**
 * Perplexity over windows, each from an empty cache.
 * @param promptOf how many tokens of a window are its prompt, whose own tokens are not predicted; 0: all tokens are
 */
export async function perplexity(
  model: LoadedModel,
  setting: CacheSetting,
  windows: readonly (readonly number[])[],
  promptOf: (window: readonly number[]) => number = () => 0,
  pause?: Pause,
  onWindow: () => void = () => {},
): Promise<PerplexityResult> {
  let nll = 0;
  let tokens = 0;
  let bytes = 0;
  for (const window of windows) {
    using feed = new Feed(model, setting, pause);
    const sink = (position: number, logits: Float32Array) => {
      const next = window[position + 1]!;
      nll += logSumExp(logits) - logits[next]!;
      tokens++;
      bytes += model.tokenizer.bytes(next).length;
    };
    const prompt = promptOf(window);
    if (prompt === 0) await feed.prompt(window.slice(0, -1), 'all', sink);
    else {
      await feed.prompt(window.slice(0, prompt), 'last', sink);
      await feed.push(window.slice(prompt, -1), 'all', sink);
    }
    onWindow();
  }
  return { tokens, nll, perplexity: Math.exp(nll / tokens), bitsPerByte: nll / Math.LN2 / bytes };
}
