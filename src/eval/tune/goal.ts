import type { Measured } from './evaluate.ts';

/** Bytes at most, or agreement with the full f32 cache at least. */
export type Goal = { readonly memory: number } | { readonly agreement: number };

export function meets(goal: Goal, { held, agreement }: Measured): boolean {
  return 'memory' in goal ? held <= goal.memory : agreement >= goal.agreement;
}

/** Of two that meet the goal: the one that loses less within the bytes, or holds less at that agreement. */
export function better(goal: Goal, a: Measured, b: Measured): boolean {
  const [loss, bytes] = [a.kl - b.kl, a.held - b.held];
  return 'memory' in goal ? loss < 0 || (loss === 0 && bytes < 0) : bytes < 0 || (bytes === 0 && loss < 0);
}

/** The best that meets the goal; null where none does. */
export function bestOf(goal: Goal, all: Iterable<Measured>): Measured | null {
  let best: Measured | null = null;
  for (const one of all) if (meets(goal, one) && (!best || better(goal, one, best))) best = one;
  return best;
}
