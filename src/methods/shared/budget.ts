import type { BudgetOptions } from './options.ts';

/** Everything stays: such a policy has no members, and costs nothing. */
export const keepsAll = ({ keep }: BudgetOptions): boolean => keep === 1;

/**
 * Entries that a view may hold after a prompt; those of the window count. A share is of all tokens seen so far, so at a later
 * turn old and new tokens stand for it together.
 * @param least never fewer (the window)
 */
export function tokensKept({ keep, budget }: BudgetOptions, at: { readonly seen: number }, least = 0): number {
  // A share such as 0.29 of 100 is 28.999999999999996 in floating point.
  return Math.max(1, least, budget ?? Math.floor(keep! * at.seen + 1e-9));
}
