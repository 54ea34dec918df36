import type { PlainRows } from './testing.ts';
import type { ModelShape } from './types.ts';

/**
 * The methods' papers read once more, straight from random tensors: plain loops and sorts in float64, sharing nothing with the
 * methods or their signals. Each function says what one layer of a first prompt keeps: ascending entries, one list a KV head.
 */

export type Matrix = readonly (readonly number[])[];
export type Kept = readonly (readonly number[])[];

/** [heads][rows][rows]: causal softmax of Q K^T / sqrt(d). */
export function attentionOf(model: ModelShape, { q, k }: PlainRows): readonly Matrix[] {
  const { heads, kvHeads, headDim: d } = model;
  const rows = k.length / (kvHeads * d);
  return range(heads).map(h =>
    range(rows).map(r => {
      const logits = range(r + 1).map(i => {
        let dot = 0;
        for (let c = 0; c < d; c++)
          dot += q[(r * heads + h) * d + c]! * k[(i * kvHeads + Math.floor((h * kvHeads) / heads)) * d + c]!;
        return dot / Math.sqrt(d);
      });
      const top = Math.max(...logits);
      const weights = logits.map(x => Math.exp(x - top));
      const total = sum(weights);
      return range(rows).map(i => (i <= r ? weights[i]! / total : 0));
    }),
  );
}

export const range = (n: number) => Array.from({ length: Math.max(0, n) }, (_, i) => i);
const sum = (x: readonly number[]) => x.reduce((a, b) => a + b, 0);
const mean = (x: readonly number[]) => sum(x) / x.length;
const column = (matrix: Matrix, i: number) => matrix.map(row => row[i]!);

export function best(scores: readonly number[], count: number): number[] {
  const order = range(scores.length).sort((a, b) => scores[b]! - scores[a]! || a - b);
  return order.slice(0, Math.max(0, count)).sort((a, b) => a - b);
}

export function pool(x: readonly number[], kind: 'mean' | 'max', width: number): number[] {
  const half = (width - 1) / 2;
  return x.map((_, i) => {
    const near = x.filter((_, j) => Math.abs(i - j) <= half);
    return kind === 'max' ? Math.max(...near) : sum(near) / width;
  });
}

/** Entries in which two kept sets differ although their scores do not tie within `tolerance` of the largest. */
export function differences(
  actual: ArrayLike<number>,
  expected: readonly number[],
  scores: ArrayLike<number>,
  tolerance = 1e-5,
): number[] {
  const mine = new Set(Array.from(actual));
  const theirs = new Set(expected);
  const extra = [...mine].filter(i => !theirs.has(i));
  const missing = [...theirs].filter(i => !mine.has(i));
  const largest = Math.max(0, ...Array.from(scores));
  const tied = (i: number, others: readonly number[]) =>
    others.some(j => Math.abs(scores[i]! - scores[j]!) <= tolerance * largest);
  return [...extra.filter(i => !tied(i, missing)), ...missing.filter(i => !tied(i, extra))];
}

/** Scores of one layer, [kvHeads][N - w]: a row reduction, then pooled and reduced over the group in either order. */
export function windowScores(
  attention: readonly Matrix[],
  how: {
    w: number;
    kvHeads: number;
    rows: 'sum' | 'mean' | 'variance';
    kind: 'mean' | 'max';
    width: number;
    group: 'mean' | 'sum';
    groupFirst?: boolean;
  },
): number[][] {
  const n = attention[0]!.length;
  const perHead = attention.map(matrix => {
    const rows = matrix.slice(-how.w);
    return range(n - how.w).map(i => {
      const values = column(rows, i);
      if (how.rows === 'sum') return sum(values);
      if (how.rows === 'mean') return mean(values);
      const centre = mean(values);
      return values.length > 1 ? sum(values.map(x => (x - centre) ** 2)) / (values.length - 1) : 0;
    });
  });
  const group = attention.length / how.kvHeads;
  return range(how.kvHeads).map(kv => {
    const members = perHead.slice(kv * group, (kv + 1) * group);
    const together = (heads: number[][]) =>
      range(n - how.w).map(i => sum(heads.map(head => head[i]!)) / (how.group === 'mean' ? group : 1));
    return how.groupFirst
      ? pool(together(members), how.kind, how.width)
      : together(members.map(head => pool(head, how.kind, how.width)));
  });
}

const withWindow = (chosen: readonly number[], n: number, w: number) => [
  ...chosen,
  ...range(n).slice(Math.max(0, n - w)),
];

/** Top B - w of each head and the window; all where n <= B. */
export function keepTop(scores: readonly (readonly number[])[], n: number, budget: number, w: number): Kept {
  return scores.map(score => (n <= budget ? range(n) : withWindow(best(score, budget - w), n, w)));
}

/** Column sums over all rows, group mean: heavy hitters among all but the last r. */
export function h2oCard(attention: readonly Matrix[], kvHeads: number, heavy: number, recent: number, average = false) {
  const n = attention[0]!.length;
  const group = attention.length / kvHeads;
  const scores = range(kvHeads).map(kv =>
    range(n).map(i => {
      const total = mean(attention.slice(kv * group, (kv + 1) * group).map(matrix => sum(column(matrix, i))));
      return average ? total / (n - i) : total;
    }),
  );
  const kept = scores.map(score =>
    n <= heavy + recent ? range(n) : withWindow(best(score.slice(0, n - recent), heavy), n, recent),
  );
  return { scores, kept };
}

/** Mean over all heads of the last row; one set. */
export function tovaCard(attention: readonly Matrix[], budget: number): { scores: number[]; kept: number[] } {
  const n = attention[0]!.length;
  const scores = range(n).map(i => mean(attention.map(matrix => matrix[n - 1]![i]!)));
  return { scores, kept: best(scores, budget) };
}

/** Entries of each layer, window included. */
export function pyramidCard(n: number, budget: number, w: number, beta: number, layers: number): number[] {
  const b = budget - w;
  if (n < budget) return range(layers).map(() => n);
  if (n < 2 * b) return range(layers).map(() => budget);
  let min = Math.floor(b / beta);
  let max = 2 * b - min;
  if (max >= n - w) {
    max = n - w;
    min = 2 * b - max;
  }
  const step = layers > 1 ? Math.floor((max - min) / (layers - 1)) : 0;
  return range(layers).map(layer => max - layer * step + w);
}

/** Entries of each head, window included. */
export function adaBudgets(scores: readonly (readonly number[])[], budget: number, w: number, alpha: number): number[] {
  const b = budget - w;
  const all = scores.flatMap((score, head) => score.map(value => ({ head, value })));
  const top = all.sort((x, y) => y.value - x.value).slice(0, scores.length * b);
  return scores.map(
    (_, h) => w + Math.round(top.filter(({ head }) => head === h).length * (1 - alpha) + Math.floor(alpha * b)),
  );
}

/** Preference of a layer, step 2 to 4 of the card. */
export function cakePreference(attention: readonly Matrix[], w: number, tau1: number, tau2: number): number {
  const n = attention[0]!.length;
  let entropy = 0;
  let shift = 0;
  for (const matrix of attention)
    for (const i of range(n - w)) {
      const values = column(matrix.slice(-w), i);
      entropy -= sum(values.map(a => a * Math.log(a + 1e-10)));
      shift += sum(values.map(a => (a - mean(values)) ** 2)) / Math.max(1, values.length - 1);
    }
  return entropy ** (1 / tau1) * shift ** (1 / tau2);
}

/** Budgets of all layers after the last stage, each stage's share capped by the one before. */
export function cakeBudgets(preferences: readonly number[], total: number, room: number): number[] {
  let caps: number[] = [];
  for (const stage of range(preferences.length)) {
    caps = [...caps, room];
    const seen = preferences.slice(0, stage + 1);
    const now = seen.map((p, i) =>
      Math.min(caps[i]!, Math.max(total > stage ? 1 : 0, Math.floor((total * p) / sum(seen)))),
    );
    for (let i = 0; sum(now) < Math.min(total, sum(caps)); i = (i + 1) % now.length) if (now[i]! < caps[i]!) now[i]!++;
    while (sum(now) > total) now[now.indexOf(Math.max(...now))]!--;
    caps = now;
  }
  return caps;
}

/** TreeKV, token by token: which of `scores` survive in a part of c entries. */
export function treeCard(scores: readonly number[], c: number): number[] {
  const part: number[] = [];
  let idx = 1;
  for (const i of range(scores.length)) {
    part.push(i);
    if (part.length <= c) continue;
    // 1-based: entries idx and idx + 1 of c + 1.
    part.splice(scores[part[idx - 1]!]! <= scores[part[idx]!]! ? idx - 1 : idx, 1);
    idx = (idx % c) + 1;
  }
  return part;
}
