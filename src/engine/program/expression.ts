import type { Expression } from '../../methods/types.ts';

/** What expressions are about: one view at one step. */
export interface StepView {
  readonly entries: number;
  readonly head: number;
  /** Probabilities of query head h: values[offsets[h]] is the first entry's. */
  readonly attention: { readonly values: Float32Array; readonly offsets: ArrayLike<number> } | null;
  /** Query heads that share a KV head. */
  readonly group: number;
  /** Values of a column, into the first ones of an array. */
  column(name: string, into: Float32Array): void;
}

/** By depth within an expression; used again and again, so that a step makes no arrays. */
const buffers: Float32Array[] = [];

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

/**
 * Value of an expression for every entry of a view: the first `entries` of an array of at least that length, which is the
 * caller's until the next call.
 */
export function evaluate(expression: Expression, view: StepView, depth = 0): Float32Array {
  const out = bufferAt(depth, view.entries);
  switch (expression.op) {
    case 'attention':
      reduceGroup(expression.group, view, out);
      break;
    case 'column':
      view.column(expression.name, out);
      break;
    case 'constant':
      out.fill(expression.value, 0, view.entries);
      break;
    case 'pool':
      pool(evaluate(expression.of, view, depth + 1), expression.kind, expression.width, view.entries, out);
      break;
    default:
      evaluate(expression.a, view, depth);
      combine(expression.op, out, evaluate(expression.b, view, depth + 1), view.entries);
  }
  return out;
}

function bufferAt(depth: number, entries: number): Float32Array {
  const known = buffers[depth];
  if (known && known.length >= entries) return known;
  // Views that grow ask again at each step: with room to spare, few of them get another one.
  const made = new Float32Array(Math.max(64, 2 * entries));
  buffers[depth] = made;
  return made;
}

function reduceGroup(
  how: 'mean' | 'sum' | 'max',
  { entries, head, attention, group }: StepView,
  out: Float32Array,
): void {
  const { values, offsets } = attention!;
  out.fill(0, 0, entries);
  for (let member = head * group; member < (head + 1) * group; member++) {
    const from = offsets[member]!;
    if (how === 'max') for (let i = 0; i < entries; i++) out[i] = Math.max(out[i]!, values[from + i]!);
    else for (let i = 0; i < entries; i++) out[i]! += values[from + i]!;
  }
  if (how === 'mean') for (let i = 0; i < entries; i++) out[i]! /= group;
}

/** Same length, stride 1; means divide by the width at the borders too. */
function pool(values: Float32Array, kind: 'mean' | 'max', width: number, entries: number, out: Float32Array): void {
  const before = (width - 1) >> 1;
  for (let i = 0; i < entries; i++) {
    let sum = 0;
    let most = Number.NEGATIVE_INFINITY;
    for (let j = Math.max(0, i - before); j < Math.min(entries, i - before + width); j++) {
      sum += values[j]!;
      most = Math.max(most, values[j]!);
    }
    out[i] = kind === 'max' ? most : sum / width;
  }
}

/** Into `a`. */
function combine(op: 'add' | 'multiply' | 'divide' | 'max', a: Float32Array, b: Float32Array, entries: number): void {
  for (let i = 0; i < entries; i++) {
    if (op === 'add') a[i]! += b[i]!;
    else if (op === 'multiply') a[i]! *= b[i]!;
    else if (op === 'divide') a[i] = b[i] === 0 ? 0 : a[i]! / b[i]!;
    else a[i] = Math.max(a[i]!, b[i]!);
  }
}
