import type { Draw } from '../draw.ts';
import { ADJECTIVES, NOUNS, WORDS } from './common-words.ts';
import { FIRST_NAMES, LAST_NAMES, SYLLABLES } from './words.ts';

const LOWER = 'abcdefghijklmnopqrstuvwxyz';
const HEX = '0123456789abcdef';

export function characters(draw: Draw, alphabet: string, count: number): string {
  let out = '';
  for (let i = 0; i < count; i++) out += alphabet[draw.between(0, alphabet.length - 1)];
  return out;
}

/** A number of `least` to `most` digits, each count equally likely. */
export function number(draw: Draw, least = 4, most = 7): string {
  const digits = draw.between(least, most);
  return String(draw.between(10 ** (digits - 1), 10 ** digits - 1));
}

export const hex = (draw: Draw, count = draw.choice([6, 8, 8, 8, 12, 16])): string => characters(draw, HEX, count);

export function uuid(draw: Draw): string {
  const h = hex(draw, 32);
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}`;
}

export const word = (draw: Draw): string => draw.choice(WORDS);
export const pair = (draw: Draw): string => `${draw.choice(ADJECTIVES)}-${draw.choice(NOUNS)}`;
/** A made-up word. */
export const made = (draw: Draw, syllables = 2): string =>
  Array.from({ length: syllables }, () => draw.choice(SYLLABLES)).join('');
export const capitals = (draw: Draw, count: number): string => characters(draw, LOWER.toUpperCase(), count);
export const person = (draw: Draw): string => `${draw.choice(FIRST_NAMES)} ${draw.choice(LAST_NAMES)}`;

export const ALPHABETS: readonly string[] = [LOWER, `${LOWER}0123456789`, '0123456789'];

export type ValueKind = 'number' | 'word' | 'code';

/** What a needle holds. */
export function value(draw: Draw, kind: ValueKind): string {
  if (kind === 'word') return draw.chance(0.5) ? word(draw) : pair(draw);
  if (kind === 'code') return draw.chance(0.7) ? hex(draw) : uuid(draw);
  return number(draw);
}
