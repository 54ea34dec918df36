import { expect, test } from 'vitest';
import { parseRazorProfile } from '../profiles.ts';
import { plainModel, plainRandom } from '../testing.ts';
import { probeScores, razorProfile } from './razor.ts';

test('probe rows: attention to earlier equal tokens, and to what followed them', () => {
  // A start token, then a b c a b c a; the last row is the second repetition of a.
  const row = [0.1, 0.2, 0.05, 0.05, 0.3, 0.15, 0.05, 0.1];
  const { echo, induction } = probeScores(row, 7, 3);
  expect(echo).toBeCloseTo(0.2 + 0.3, 12);
  expect(induction).toBeCloseTo(0.05 + 0.15, 12);
  expect(probeScores(row, 3, 3)).toEqual({ echo: 0, induction: 0 });
  expect(probeScores(row, 0, 3)).toEqual({ echo: 0, induction: 0 });
});

test.each([1, 2, 8])('retrieval heads: the best KV heads of all layers, by the best of %i query heads', group => {
  const model = plainModel({ layers: 6, kvHeads: 4, group });
  const random = plainRandom(group);
  const draw = () => Array.from({ length: model.layers }, () => Float32Array.from({ length: model.heads }, random));
  const scores = { echo: draw(), induction: draw() };
  const best = (of: Float32Array[], count: number) =>
    Array.from({ length: 24 }, (_, i) => {
      const [layer, head] = [Math.floor(i / 4), i % 4];
      return { key: `${layer}.${head}`, score: Math.max(...of[layer]!.slice(head * group, (head + 1) * group)) };
    })
      .sort((a, b) => b.score - a.score)
      .slice(0, count)
      .map(({ key }) => key);
  const { retrieval } = parseRazorProfile(razorProfile(scores, model), model);
  const found = retrieval.flatMap((heads, layer) => heads.map(head => `${layer}.${head}`));
  // 14 % of 24 heads are 3.36, 1 % are 0.24: both are rounded up.
  expect(found.sort()).toEqual([...new Set([...best(scores.induction, 4), ...best(scores.echo, 1)])].sort());
  expect(razorProfile(scores, model, { induction: 1 }).retrieval.every(heads => heads.length === 4)).toBe(true);
  expect(razorProfile(scores, model, { induction: 0, echo: 0 }).retrieval.flat()).toEqual([]);
});
