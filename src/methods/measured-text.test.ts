import { expect, test } from 'vitest';
import type { Measured, MeasuredRow } from './measured.ts';
import { measuredSentence, percent } from './measured-text.ts';

const row = (at: MeasuredRow['at'], held: number, more: Partial<MeasuredRow> = {}): MeasuredRow => ({
  ...{ method: 'a', at, recipe: `a(${at})`, kept: held, held, peak: 1, parked: 0, agreement: 0.9, kl: 0.1 },
  scores: [0.5, 0.2],
  ...more,
});
const measured = (...rows: MeasuredRow[]): Measured => ({
  ...{ model: 'm', fingerprint: 'f', command: 'c', length: 10, instances: 1, windows: 1, pages: 'f16' },
  tasks: [
    { name: 'good', title: 'Good', full: 1 },
    { name: 'weak', title: 'Weak', full: 0.59 },
  ],
  rows,
});

test("a sentence tells the paper's setting, and the scores that support a claim", () => {
  const of = measured(row(0.2, 0.2), row('paper', 0.95));
  expect(measuredSentence(of, 'a')).toBe(
    "`a(paper)` holds 95.0 % of the bytes and agrees in 90.0 % of next tokens, of the full cache's scores good 50.0 %.",
  );
  expect(measuredSentence(of, 'b')).toBe('');
});

test('a setting that does nothing at the length measured gives way to the one nearest a fifth', () => {
  const others = [row(0.1, 0.1), row(0.25, 0.25), row(0.4, 0.4)];
  expect(measuredSentence(measured(row('paper', 0.96), ...others), 'a')).toMatch(
    /^`a\(0\.25\)` holds 25\.0 % .*\. The paper's setting, `a\(paper\)`, holds 96\.0 % at this length\.$/,
  );
  expect(measuredSentence(measured(row('paper', 0.96)), 'a')).toMatch(/^`a\(paper\)` holds 96\.0 %/);
  const unknown = others.map(other => ({ ...other, agreement: null }));
  expect(measuredSentence(measured(row('paper', 0.96), ...unknown), 'a')).toMatch(/^`a\(paper\)` holds 96\.0 %/);
});

test('what is parked counts, too', () => {
  expect(measuredSentence(measured(row('paper', 0.07, { parked: 3.029 })), 'a')).toContain(
    'holds 7.0 % of the bytes, parks 302.9 % and agrees',
  );
});

test.each([
  [0, '0 %'],
  [0.0001, '<0.1 %'],
  [0.0005, '0.1 %'],
  [0.5, '50.0 %'],
  [0.9994, '99.9 %'],
  [0.9999, '>99.9 %'],
  [1, '100 %'],
  [1.0004, '100.0 %'],
  [3.029, '302.9 %'],
])('%d is %s', (share, text) => {
  expect(percent(share)).toBe(text);
});
