import type { Expression } from '../../methods/types.ts';

/** What expressions are about: one view at one step. */
export interface StepView {
  readonly entries: number;
  /** Probabilities of query head `member` of the view's group: index of the first entry's in `values`. */
  readonly attention: { readonly values: Float32Array; readonly offsets: ArrayLike<number> } | null;
  readonly group: number;
  column(name: string): Float32Array;
}

/** Whether probabilities of the step's query are needed. */
export function needsAttention(expression: Expression): boolean {
  switch (expression.op) {
    case 'attention':
      return true;
    case 'column':
    case 'constant':
      return false;
    case 'pool':
      return needsAttention(expression.of);
    default:
      return needsAttention(expression.a) || needsAttention(expression.b);
  }
}

/** Value of an expression for every entry of a view: f32 [entries], valid for the caller alone. */
export function evaluate(expression: Expression, view: StepView): Float32Array {
  switch (expression.op) {
    case 'attention':
      return reduceGroup(expression.group, view);
    case 'column':
      return view.column(expression.name);
    case 'constant':
      return new Float32Array(view.entries).fill(expression.value);
    case 'pool':
      return pool(evaluate(expression.of, view), expression.kind, expression.width);
    default:
      return combine(expression.op, evaluate(expression.a, view), evaluate(expression.b, view));
  }
}

function reduceGroup(how: 'mean' | 'sum' | 'max', { entries, attention, group }: StepView): Float32Array {
  const out = new Float32Array(entries);
  const { values, offsets } = attention!;
  for (let member = 0; member < group; member++) {
    const from = offsets[member]!;
    if (how === 'max') for (let i = 0; i < entries; i++) out[i] = Math.max(out[i]!, values[from + i]!);
    else for (let i = 0; i < entries; i++) out[i]! += values[from + i]!;
  }
  if (how === 'mean') for (let i = 0; i < entries; i++) out[i]! /= group;
  return out;
}

/** Same length, stride 1; means divide by the width at the borders too. */
function pool(values: Float32Array, kind: 'mean' | 'max', width: number): Float32Array {
  const out = new Float32Array(values.length);
  const before = (width - 1) >> 1;
  for (let i = 0; i < values.length; i++) {
    let sum = 0;
    let most = Number.NEGATIVE_INFINITY;
    for (let j = Math.max(0, i - before); j < Math.min(values.length, i - before + width); j++) {
      sum += values[j]!;
      most = Math.max(most, values[j]!);
    }
    out[i] = kind === 'max' ? most : sum / width;
  }
  return out;
}

function combine(op: 'add' | 'multiply' | 'divide' | 'max', a: Float32Array, b: Float32Array): Float32Array {
  for (let i = 0; i < a.length; i++) {
    if (op === 'add') a[i]! += b[i]!;
    else if (op === 'multiply') a[i]! *= b[i]!;
    else if (op === 'divide') a[i] = b[i] === 0 ? 0 : a[i]! / b[i]!;
    else a[i] = Math.max(a[i]!, b[i]!);
  }
  return a;
}
