import { KvasirError } from '../../errors.ts';
import type { Tokenizer } from '../../model/types.ts';

/** Tokens of a text to calibrate on, the first `most`. Raises `invalid_request` where there are fewer than `least`. */
export function calibrationTokens(
  tokenizer: Tokenizer,
  text: string,
  least: number,
  most = Number.POSITIVE_INFINITY,
): readonly number[] {
  const tokens = tokenizer.encode(text).slice(0, most);
  if (tokens.length < least)
    throw new KvasirError('invalid_request', 'the calibration text is too short', {
      field: 'text',
      value: `${tokens.length} tokens`,
      allowed: `at least ${least} tokens`,
    });
  return tokens;
}
