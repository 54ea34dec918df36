import type { Content } from './content.ts';
import type { PreparedPlan } from './types.ts';
import { Undo } from './undo.ts';

/** See CacheSequence.inOrder. */
export function inOrder(c: Content, steps: readonly (() => PreparedPlan | undefined)[]): void {
  if (steps.length === 1) {
    steps[0]!()?.apply();
    return;
  }
  const undo = new Undo(c);
  try {
    for (const [n, step] of steps.entries()) {
      const plan = step();
      // The last one is prepared: nothing can fail any more.
      if (n === steps.length - 1) undo.commit();
      plan?.apply();
    }
  } catch (error) {
    undo.rollback();
    throw error;
  }
  undo.commit();
}
