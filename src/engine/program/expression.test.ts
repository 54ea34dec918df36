import { expect, test } from 'vitest';
import { plainRandom } from '../../methods/testing.ts';
import type { Expression } from '../../methods/types.ts';
import { evaluate, type StepView } from './expression.ts';

const random = plainRandom(21);
const draw = (n: number) => Float32Array.from({ length: n }, () => random() - 0.3);

function viewOf(entries: number, head: number, group: number) {
  const values = draw(3 * group * entries + 7);
  const offsets = Array.from({ length: 3 * group }, (_, h) => 7 + h * entries);
  const columns: Record<string, Float32Array> = { a: draw(entries), b: draw(entries) };
  if (entries > 1) columns.b![1] = 0;
  const view: StepView = {
    entries,
    head,
    group,
    attention: { values, offsets },
    column: (name, into) => into.set(columns[name]!),
  };
  return { view, columns, member: (m: number, i: number) => values[offsets[head * group + m]! + i]! };
}

const a: Expression = { op: 'column', name: 'a' };
const b: Expression = { op: 'column', name: 'b' };

test.each([1, 63, 64, 65, 5])(
  '%i entries: sums, maxima and means, in any order, whatever was there before',
  entries => {
    for (const group of [1, 3]) {
      const { view, columns, member } = viewOf(entries, 1, group);
      const value = (expression: Expression) => [...evaluate(expression, view).subarray(0, entries)];
      const each = (of: (i: number) => number) => Array.from({ length: entries }, (_, i) => Math.fround(of(i)));
      const members = (i: number) => Array.from({ length: group }, (_, m) => member(m, i));
      const sum = (i: number) => members(i).reduce((x, y) => Math.fround(x + y), 0);
      expect(value({ op: 'attention', group: 'sum' })).toEqual(each(sum));
      expect(value({ op: 'attention', group: 'mean' })).toEqual(each(i => sum(i) / group));
      expect(value({ op: 'attention', group: 'max' })).toEqual(each(i => Math.max(0, ...members(i))));
      const x = columns.a!;
      const y = columns.b!;
      expect(value({ op: 'constant', value: 0.5 })).toEqual(each(() => 0.5));
      expect(value({ op: 'divide', a, b })).toEqual(each(i => (y[i] === 0 ? 0 : x[i]! / y[i]!)));
      expect(value({ op: 'multiply', a, b: { op: 'max', a: b, b: a } })).toEqual(
        each(i => x[i]! * Math.max(x[i]!, y[i]!)),
      );
      const near = (i: number) => [i - 1, i, i + 1].filter(j => j >= 0 && j < entries);
      const pooled: Expression = { op: 'pool', kind: 'max', width: 3, of: { op: 'add', a: b, b: a } };
      expect(value({ op: 'add', a, b: pooled })).toEqual(
        each(i => x[i]! + Math.max(...near(i).map(j => Math.fround(x[j]! + y[j]!)))),
      );
      const mean: Expression = { op: 'pool', kind: 'mean', width: 3, of: a };
      expect(value(mean)).toEqual(each(i => near(i).reduce((total, j) => total + x[j]!, 0) / 3));
    }
  },
);

test('the same arrays serve again', () => {
  const expression: Expression = { op: 'add', a, b: { op: 'pool', kind: 'mean', width: 3, of: b } };
  const { view } = viewOf(65, 0, 1);
  const first = evaluate(expression, view);
  expect(evaluate(expression, view)).toBe(first);
  expect(evaluate(expression, viewOf(64, 2, 1).view)).toBe(first);
});
