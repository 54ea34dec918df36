import { uniform } from './stats.ts';

/** Seeded token ids; the first three of a vocabulary are left out, as they tend to be special. */
export function randomTokens(length: number, vocab: number, seed: number): number[] {
  const random = uniform(seed);
  return Array.from({ length }, () => 3 + Math.floor(random() * (vocab - 3)));
}
