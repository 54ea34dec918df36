import type { Expression } from '../types.ts';

/** Expressions of step rules, short to write. */
export const attention = (group: 'mean' | 'sum' | 'max'): Expression => ({ op: 'attention', group });
export const column = (name: string): Expression => ({ op: 'column', name });
export const constant = (value: number): Expression => ({ op: 'constant', value });
export const add = (a: Expression, b: Expression): Expression => ({ op: 'add', a, b });
export const multiply = (a: Expression, b: Expression): Expression => ({ op: 'multiply', a, b });
export const divide = (a: Expression, b: Expression): Expression => ({ op: 'divide', a, b });
export const pooled = (kind: 'mean' | 'max', width: number, of: Expression): Expression => ({
  op: 'pool',
  kind,
  width,
  of,
});
