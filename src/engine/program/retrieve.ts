import type { CacheSequence } from '../../cache/sequence.ts';
import type { RetrieveRule } from '../../methods/types.ts';

/** What retrieval remembers of a layer; kept with the sequence. */
export interface RetrieveState {
  /** f32 [heads * headDim]: the last step's query, after RoPE; null before the first step. */
  last: Float32Array | null;
  /** Steps since the last selection. */
  steps: number;
}

/** What retrieval did, over all layers. */
export interface RetrieveCounts {
  steps: number;
  selections: number;
  /** Entries copied back into the arena. */
  rows: number;
}

/** Decides whether the parked units of a layer are chosen anew for this query (after RoPE), and fetches them. */
export function retrieve(
  sequence: CacheSequence,
  layer: number,
  rule: RetrieveRule,
  query: Float32Array,
  state: RetrieveState,
  counts: RetrieveCounts,
): void {
  const { kvHeads, headDim } = sequence.cache.shape;
  const heads = query.length / headDim;
  counts.steps++;
  const stay =
    state.last !== null && state.steps + 1 < rule.most && meanCosine(state.last, query, headDim) >= rule.cosine;
  state.last ??= new Float32Array(query.length);
  state.last.set(query);
  state.steps = stay ? state.steps + 1 : 0;
  if (stay) return;
  counts.selections++;
  for (let head = 0; head < kvHeads; head++) {
    const { count, lengths, means } = sequence.units(layer, head);
    if (count === 0) continue;
    const group = heads / kvHeads;
    const scores = unitScores(
      query.subarray(head * group * headDim, (head + 1) * group * headDim),
      means,
      count,
      headDim,
    );
    counts.rows += sequence.fetch(layer, head, choose(scores, lengths, rule.budget));
  }
}

export function meanCosine(a: Float32Array, b: Float32Array, headDim: number): number {
  let sum = 0;
  const heads = a.length / headDim;
  for (let head = 0; head < heads; head++) {
    let aa = 0;
    let bb = 0;
    let ab = 0;
    for (let c = head * headDim; c < (head + 1) * headDim; c++) {
      aa += a[c]! * a[c]!;
      bb += b[c]! * b[c]!;
      ab += a[c]! * b[c]!;
    }
    sum += aa > 0 && bb > 0 ? ab / Math.sqrt(aa * bb) : 1;
  }
  return sum / heads;
}

/** Softmax of q . mean key / sqrt(headDim) over the units, averaged over the group's query heads. */
export function unitScores(queries: Float32Array, means: Float32Array, count: number, headDim: number): Float64Array {
  const scores = new Float64Array(count);
  const line = new Float64Array(count);
  for (let from = 0; from < queries.length; from += headDim) {
    let most = Number.NEGATIVE_INFINITY;
    for (let unit = 0; unit < count; unit++) {
      let dot = 0;
      for (let c = 0; c < headDim; c++) dot += queries[from + c]! * means[unit * headDim + c]!;
      line[unit] = dot / Math.sqrt(headDim);
      most = Math.max(most, line[unit]!);
    }
    let total = 0;
    for (let unit = 0; unit < count; unit++) total += line[unit] = Math.exp(line[unit]! - most);
    for (let unit = 0; unit < count; unit++) scores[unit]! += line[unit]! / total;
  }
  return scores;
}

/** Best units first (ties: the earlier), each taken while the budget of tokens has room for it; ascending. */
export function choose(scores: Float64Array, lengths: ArrayLike<number>, budget: number): Uint32Array {
  const order = Uint32Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b);
  const chosen: number[] = [];
  let room = budget;
  for (const unit of order) {
    if (lengths[unit]! > room) continue;
    chosen.push(unit);
    room -= lengths[unit]!;
  }
  return Uint32Array.from(chosen).sort();
}
