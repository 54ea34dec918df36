import { kMeans, nearestByDot, squaredDistance } from '../shared/k-means.ts';

export type Range = readonly [from: number, to: number];

/** Says what to look at; what follows is of the episode (EpiCache, appendix: "extract the essential information"). */
export const INSTRUCTION =
  '\n\nExtract the essential information of the conversation: names, events, dates, places, commitments, preferences and figures.\n\n';

/** A conversation cut into topics, by what its passages are about. */
export interface Episodes {
  /** f64 [hidden] each: means of the passages' embeddings. */
  readonly centroids: readonly Float64Array[];
  /** By episode: its passages, nearest to the centroid first. */
  readonly members: readonly (readonly number[])[];
}

/** Ranges of `size` tokens that cover [0, end), the last one shorter; a rest of less than half of that joins the one before. */
export function evenPassages(end: number, size: number): Range[] {
  const ranges: Range[] = [];
  for (let from = 0; from < end; from += size) {
    const to = end - from < size * 1.5 ? end : from + size;
    ranges.push([from, to]);
    if (to === end) break;
  }
  return ranges;
}

/** Passages of so many turns each; the last one may have fewer. */
export function spoken(turns: readonly { readonly from: number; readonly to: number }[], utterances: number): Range[] {
  const ranges: Range[] = [];
  for (let i = 0; i < turns.length; i += utterances)
    ranges.push([turns[i]!.from, turns[Math.min(turns.length, i + utterances) - 1]!.to]);
  return ranges;
}

/** Passages by topic: k-means of their embeddings, ten restarts, nothing left to chance. */
export function episodesOf(embeddings: readonly Float32Array[], count: number): Episodes {
  const { centroids, assignment } = kMeans(embeddings, count, generator());
  const members = centroids.map((centroid, e) => {
    const distance = (i: number) => squaredDistance(embeddings[i]!, centroid);
    const own = Array.from(assignment.keys()).filter(i => assignment[i] === e);
    return own.sort((a, b) => distance(a) - distance(b) || a - b);
  });
  return { centroids, members };
}

/** The episode that a question is about. */
export function route({ centroids }: Episodes, question: ArrayLike<number>): number {
  return nearestByDot(question, centroids);
}

/** The probe of an episode: the instruction, then its passages nearest to the centroid in the order of the text. */
export function probeOf(
  { members }: Episodes,
  episode: number,
  nearest: number,
  passages: readonly Range[],
  tokens: ArrayLike<number>,
  instruction: readonly number[],
): number[] {
  const chosen = members[episode]!.slice(0, nearest).sort((a, b) => a - b);
  const text = chosen.flatMap(i => {
    const [from, to] = passages[i]!;
    return Array.from({ length: to - from }, (_, n) => tokens[from + n]!);
  });
  return [...instruction, ...text];
}

/** A fixed sequence of numbers in [0, 1): the same text has the same episodes, whoever asks (mulberry32). */
function generator(): () => number {
  let state = 1;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}
