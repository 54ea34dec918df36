import type { CacheSequence } from '../cache/sequence.ts';
import type { Segment } from '../methods/types.ts';

const STATE = 'segments';

/**
 * Named parts of a sequence's text (docs/segments.md). They are a state of the sequence: they fork with it and count as bytes.
 * A prompt names its parts before it is read, so what is asked for is clipped to what has been seen.
 */
export function segmentsOf(sequence: CacheSequence, seen: number): readonly Segment[] {
  return cut(sequence.state<readonly Segment[]>(STATE) ?? [], seen);
}

/**
 * A prompt that follows the sequence's first `start` tokens names its parts, in order; it may name those of earlier tokens
 * again, and then differently. Parts of tokens that are no longer there go.
 */
export function setSegments(sequence: CacheSequence, segments: readonly Segment[], start: number): void {
  const before = sequence.state<readonly Segment[]>(STATE) ?? [];
  const kept = cut(before, start).filter(old => !segments.some(({ from, to }) => from < old.to && old.from < to));
  const all = [...kept, ...segments].sort((a, b) => a.from - b.from);
  if (all.length > 0 || before.length > 0) sequence.setState(STATE, all.length > 0 ? all : undefined);
}

/** What lies before token `end`. */
function cut(segments: readonly Segment[], end: number): readonly Segment[] {
  if ((segments.at(-1)?.to ?? 0) <= end) return segments;
  return segments.flatMap(segment =>
    segment.from < end ? [segment.to <= end ? segment : { ...segment, to: end }] : [],
  );
}
