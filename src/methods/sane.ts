/** A full-cache score under which a task supports no claim about a setting. */
export const SANE = 0.6;

/** Whether a full-cache score, 0..1, is one that claims may rest on. */
export function isSane(score: number): boolean {
  return score >= SANE;
}
