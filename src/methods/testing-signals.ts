import { rowsOfShares } from './row-shares.ts';
import { symmetricEigen } from './shared/eigen.ts';
import { plainClusters } from './testing-clusters.ts';
import type {
  AttentionSignal,
  Clusters,
  DistanceSignal,
  GramSignal,
  Nearest,
  NearestSignal,
  PerHead,
  PrincipalSignal,
  RangeSignal,
  ResidualSignal,
  RowSignal,
  SignalRequest,
  SignalValue,
  SimilaritySignal,
} from './types.ts';

/**
 * Every signal of types.ts by the book, in float64, from plain arrays: slow, simple, and free of kernels. What methods are
 * tested on, and what the backend's signals are held against.
 */

/** The entries of one KV head at one layer. */
export interface PlainView {
  /** f64 [entries][headDim], after RoPE. */
  k: Float64Array;
  v: Float64Array;
  positions: Int32Array;
  readonly columns: Map<string, Float32Array>;
}

/** What signals of one layer are computed from. */
export interface PlainScene {
  readonly headDim: number;
  readonly group: number;
  /** Sliding window of the layer, 0: none. */
  readonly window: number;
  /** [layers][kvHeads]; layers after `layer` are not looked at. */
  readonly views: readonly (readonly PlainView[])[];
  readonly layer: number;
  /** The prompt's rows at this layer: f64 [rows][heads][headDim], after RoPE. */
  readonly q: Float64Array;
  readonly rowPositions: Int32Array;
  /** f64 [rows][hiddenSize] */
  readonly hidden: Float64Array;
  /** Decides which rows are sampled. Default 0. */
  readonly seed?: number;
}

export function plainSignal<S extends SignalRequest>(scene: PlainScene, request: S): SignalValue<S> {
  return compute(scene, request) as SignalValue<S>;
}

function compute(
  scene: PlainScene,
  request: SignalRequest,
): PerHead | Float32Array | Float64Array | Int32Array | readonly Clusters[] | readonly Nearest[] {
  switch (request.signal) {
    case 'attention':
      return attention(scene, request);
    case 'hidden-norm':
      return hiddenNorms(scene);
    case 'hidden-peaks':
      return hiddenPeaks(scene, request.count);
    case 'key-norm':
    case 'value-norm':
      return norms(scene, request);
    case 'neighbour-cosine':
    case 'layer-cosine':
      return cosines(scene, request);
    case 'distance':
      return distances(scene, request);
    case 'nearest':
      return nearest(scene, request);
    case 'residual':
      return residual(scene, request);
    case 'gram':
      return gram(scene, request);
    case 'principal':
      return principal(scene, request);
    case 'ranges':
      return ranges(scene, request);
    default:
      return scene.views[scene.layer]!.map(view => plainClusters(view, scene.headDim, request));
  }
}

function dot(a: Float64Array, i: number, b: Float64Array, j: number, length: number): number {
  let sum = 0;
  for (let c = 0; c < length; c++) sum += a[i + c]! * b[j + c]!;
  return sum;
}

/** One Float64Array [entries] a row: probabilities that query head `head` gives in prompt row `row`; 0 where it does not see. */
export function plainProbabilities(scene: PlainScene, head: number, row: number): Float64Array {
  const { headDim, group, window, rowPositions } = scene;
  const view = scene.views[scene.layer]![Math.floor(head / group)]!;
  const heads = scene.q.length / (rowPositions.length * headDim);
  const bias = view.columns.get('bias');
  const position = rowPositions[row]!;
  const logits = new Float64Array(view.positions.length).fill(Number.NEGATIVE_INFINITY);
  let top = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) {
    const distance = position - view.positions[i]!;
    if (distance < 0 || (window > 0 && distance >= window)) continue;
    const score = dot(scene.q, (row * heads + head) * headDim, view.k, i * headDim, headDim) / Math.sqrt(headDim);
    logits[i] = score + (bias?.[i] ?? 0);
    top = Math.max(top, logits[i]!);
  }
  let sum = 0;
  const p = logits.map(x => (x === Number.NEGATIVE_INFINITY ? 0 : Math.exp(x - top)));
  for (const x of p) sum += x;
  return sum > 0 ? p.map(x => x / sum) : p;
}

function attention(scene: PlainScene, request: AttentionSignal): Float32Array[] {
  const { group } = scene;
  const rows = plainRows(scene, request);
  const { pool } = request;
  return scene.views[scene.layer]!.flatMap((view, kvHead) => {
    const shown = Math.max(0, view.positions.length - (request.drop ?? 0));
    let heads: Float64Array[] = Array.from({ length: group }, (_, g) => {
      const p = rows.map(row => plainProbabilities(scene, kvHead * group + g, row).subarray(0, shown));
      return Float64Array.from({ length: shown }, (_, i) => {
        const seen = request.reduce === 'seen-mean' ? rows.map(row => sees(scene, row, view.positions[i]!)) : [];
        return reduceRows(
          p.map(row => row[i]!),
          request.reduce,
          seen.filter(Boolean).length,
        );
      });
    });
    const pooled = (x: Float64Array) => (pool ? plainPool(x, pool.kind, pool.width) : x);
    if (pool?.after !== 'group') heads = heads.map(pooled);
    if (request.group) heads = [reduceGroup(heads, request.group)];
    if (pool?.after === 'group') heads = heads.map(pooled);
    return heads.map(head => Float32Array.from(head));
  });
}

/** Rows of the prompt that a request is about. */
function plainRows(scene: PlainScene, request: AttentionSignal): number[] {
  const rows = scene.rowPositions.length;
  if (typeof request.rows === 'object') return [...rowsOfShares(request.rows, rows, scene.seed ?? 0)];
  const asked = request.rows === 'all' ? rows : Math.min(request.rows, rows);
  return Array.from({ length: asked }, (_, r) => rows - asked + r);
}

/** Does a row of the prompt see an entry at this position? */
function sees({ rowPositions, window }: PlainScene, row: number, position: number): boolean {
  const distance = rowPositions[row]! - position;
  return distance >= 0 && (window === 0 || distance < window);
}

/** @param seen how many of the rows see the entry */
function reduceRows(p: readonly number[], how: AttentionSignal['reduce'], seen: number): number {
  if (how === 'max') return Math.max(0, ...p);
  if (how === 'entropy') return p.reduce((sum, x) => sum - x * Math.log(x + 1e-10), 0);
  const sum = p.reduce((a, b) => a + b, 0);
  if (how === 'sum') return sum;
  if (how === 'seen-mean') return seen > 0 ? sum / seen : 0;
  const mean = p.length > 0 ? sum / p.length : 0;
  if (how === 'mean') return mean;
  return p.length > 1 ? p.reduce((a, x) => a + (x - mean) ** 2, 0) / (p.length - 1) : 0;
}

export function plainPool(x: Float64Array, kind: 'mean' | 'max', width: number): Float64Array {
  const half = (width - 1) / 2;
  return x.map((_, i) => {
    const near = x.subarray(Math.max(0, i - half), i + half + 1);
    return kind === 'max' ? Math.max(...near) : near.reduce((a, b) => a + b, 0) / width;
  });
}

function reduceGroup(heads: readonly Float64Array[], how: 'mean' | 'sum' | 'max'): Float64Array {
  return heads[0]!.map((_, i) => {
    const values = heads.map(head => head[i]!);
    if (how === 'max') return Math.max(...values);
    const sum = values.reduce((a, b) => a + b, 0);
    return how === 'sum' ? sum : sum / values.length;
  });
}

function hiddenNorms(scene: PlainScene): Float32Array {
  const rows = scene.rowPositions.length;
  const width = rows > 0 ? scene.hidden.length / rows : 0;
  return Float32Array.from({ length: rows }, (_, r) =>
    Math.sqrt(dot(scene.hidden, r * width, scene.hidden, r * width, width)),
  );
}

/** Positions of the rows that own the `count` elements of greatest magnitude, the earlier of equal ones. */
function hiddenPeaks({ hidden, rowPositions }: PlainScene, count: number): Int32Array {
  const width = hidden.length / Math.max(1, rowPositions.length);
  const order = [...hidden.keys()].sort((a, b) => Math.abs(hidden[b]!) - Math.abs(hidden[a]!) || a - b);
  const rows = new Set(order.slice(0, count).map(i => Math.floor(i / width)));
  return Int32Array.from(rows, row => rowPositions[row]!).sort();
}

function norm(x: Float64Array, i: number, d: number): number {
  return Math.sqrt(dot(x, i * d, x, i * d, d));
}

function norms(scene: PlainScene, request: RowSignal): Float32Array[] {
  const plane = request.signal === 'key-norm' ? 'k' : 'v';
  return scene.views[scene.layer]!.map(view =>
    Float32Array.from(view.positions, (_, i) => norm(view[plane], i, scene.headDim)),
  );
}

function cosines(scene: PlainScene, request: SimilaritySignal): Float32Array[] {
  const d = scene.headDim;
  const neighbours = request.signal === 'neighbour-cosine';
  return scene.views[scene.layer]!.map((view, head) => {
    const a = view[request.of];
    const b = neighbours ? a : scene.views[request.layer!]![head]![request.of];
    const entries = view.positions.length;
    return Float32Array.from({ length: neighbours ? Math.max(0, entries - 1) : entries }, (_, i) => {
      const j = neighbours ? i + 1 : i;
      const length = norm(a, i, d) * norm(b, j, d);
      return length > 0 ? dot(a, i * d, b, j * d, d) / length : 0;
    });
  });
}

function distances(scene: PlainScene, { of, pairs }: DistanceSignal): Float32Array[] {
  const d = scene.headDim;
  return scene.views[scene.layer]!.map((view, head) => {
    const list = pairs[head]!;
    return Float32Array.from({ length: list.length / 2 }, (_, p) => {
      const [a, b] = [list[2 * p]! * d, list[2 * p + 1]! * d];
      return view[of].subarray(a, a + d).reduce((sum, x, c) => sum + (x - view[of][b + c]!) ** 2, 0);
    });
  });
}

function nearest(scene: PlainScene, { of, centres, members }: NearestSignal): Nearest[] {
  const d = scene.headDim;
  return scene.views[scene.layer]!.map((view, head) => {
    const found = Array.from(members[head]!, member => {
      const cosines = Array.from(centres[head]!, centre => {
        const length = norm(view[of], member, d) * norm(view[of], centre, d);
        return length > 0 ? dot(view[of], member * d, view[of], centre * d, d) / length : 0;
      });
      const most = Math.max(...cosines);
      return { place: cosines.indexOf(most), cosine: Math.max(-1, Math.min(1, most)) };
    });
    return {
      place: Uint32Array.from(found, ({ place }) => place),
      cosine: Float32Array.from(found, ({ cosine }) => cosine),
    };
  });
}

/** By projection on the span's own rows: the normal equations, in another way than an orthonormal basis. */
function residual(scene: PlainScene, { of, basis, members, rank, choose }: ResidualSignal): Float32Array[] {
  const d = scene.headDim;
  return scene.views[scene.layer]!.map((view, head) => {
    const row = (entry: number) => Array.from(view[of].subarray(entry * d, (entry + 1) * d));
    const span: number[][] = [];
    const rows = Array.from(basis[head]!, row);
    for (let i = 0; i < Math.min(rank, rows.length); i++) {
      const left = rows.map(x => restOf(span, x));
      const next = choose === 'first' ? i : left.indexOf(Math.max(...left));
      if (left[next]! > 1e-6 * Math.hypot(...rows[next]!)) span.push(rows[next]!);
    }
    return Float32Array.from(members[head]!, entry => restOf(span, row(entry)));
  });
}

/** Distance of `x` from the span of independent rows. */
function restOf(span: readonly (readonly number[])[], x: readonly number[]): number {
  const inner = (a: readonly number[], b: readonly number[]) => a.reduce((sum, y, c) => sum + y * b[c]!, 0);
  const system = span.map(a => [...span.map(b => inner(a, b)), inner(a, x)]);
  for (const [i, pivot] of system.entries())
    for (const [j, equation] of system.entries()) {
      const factor = equation[i]! / pivot[i]!;
      if (j !== i) for (let c = i; c <= span.length; c++) equation[c]! -= factor * pivot[c]!;
    }
  const weights = system.map((equation, i) => equation[span.length]! / equation[i]!);
  return Math.hypot(...x.map((y, c) => y - weights.reduce((sum, weight, i) => sum + weight * span[i]![c]!, 0)));
}

function gram(scene: PlainScene, request: GramSignal): Float64Array {
  const d = scene.headDim;
  const views = request.layers.flatMap(layer => scene.views[layer]!);
  const width = views.length * d;
  const entries = Math.min(request.entries ?? Number.POSITIVE_INFINITY, views[0]!.positions.length);
  const out = new Float64Array(width * width);
  for (let i = 0; i < entries; i++) {
    const row = views.flatMap(view => [...view[request.of].subarray(i * d, (i + 1) * d)]);
    for (let a = 0; a < width; a++) for (let b = 0; b < width; b++) out[a * width + b]! += row[a]! * row[b]!;
  }
  return out;
}

function principal(scene: PlainScene, { of, layers, rank }: PrincipalSignal): Float32Array {
  const matrix = gram(scene, { signal: 'gram', of, layers });
  const width = Math.sqrt(matrix.length);
  const { vectors } = symmetricEigen(matrix, width, rank);
  return Float32Array.from({ length: width * rank }, (_, i) => vectors[(i % rank) * width + Math.floor(i / rank)]!);
}

function ranges(scene: PlainScene, { of }: RangeSignal): Float32Array[] {
  const d = scene.headDim;
  const group = scene.group * d;
  return scene.views[scene.layer]!.map((view, head, { length }) => {
    const out = new Float32Array(2 * d).fill(Number.POSITIVE_INFINITY, 0, d).fill(Number.NEGATIVE_INFINITY, d);
    const values = of === 'q' ? scene.q.filter((_, i) => Math.floor(i / group) % length === head) : view[of];
    values.forEach((x, i) => {
      out[i % d] = Math.min(out[i % d]!, x);
      out[d + (i % d)] = Math.max(out[d + (i % d)]!, x);
    });
    return out;
  });
}
