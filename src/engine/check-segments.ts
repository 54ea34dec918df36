import { KvasirError } from '../errors.ts';
import type { SegmentKind } from '../methods/types.ts';

const KINDS: Readonly<Record<SegmentKind, true>> = {
  system: true,
  turn: true,
  document: true,
  image: true,
  text: true,
};
export const SEGMENT_KINDS = Object.keys(KINDS) as readonly SegmentKind[];
export const MAX_SEGMENTS = 4096;
export const MAX_LABEL_LENGTH = 200;

export function isSegmentKind(kind: unknown): kind is SegmentKind {
  return typeof kind === 'string' && Object.hasOwn(KINDS, kind);
}

/**
 * Segments of a prompt of `length` (tokens, or UTF-16 units of text): ascending, disjoint, none empty. Raises `invalid_request`
 * on the first field that is wrong.
 */
export function checkSegments(segments: unknown, length: number, unit: 'tokens' | 'characters'): void {
  if (!Array.isArray(segments) || segments.length > MAX_SEGMENTS)
    throw refuse('segments', segments, `a list of at most ${MAX_SEGMENTS} segments`);
  let end = 0;
  for (const [i, segment] of segments.entries()) {
    const field = `segments.${i}`;
    checkSegmentName(field, segment);
    const { from, to } = segment;
    if (!isCount(from)) throw refuse(`${field}.from`, from, 'an integer from 0');
    if (!isCount(to) || to <= from) throw refuse(`${field}.to`, to, `an integer above from, ${from}`);
    if (to > length) throw refuse(`${field}.to`, to, `at most ${length}, the ${unit} of the prompt`);
    if (from < end) {
      const before = segments[i - 1];
      throw to <= before.from
        ? refuse(`${field}.from`, from, `at least ${end}: segments come in the order of the prompt`)
        : refuse(`${field}.from`, from, `at least ${end}, where the segment before it ends: segments do not overlap`);
    }
    end = to;
  }
}

/** Kind and label, as also parts of messages have them. */
export function checkSegmentName(field: string, segment: unknown): void {
  if (typeof segment !== 'object' || segment === null) throw refuse(field, segment, 'an object with a kind');
  const { kind, label } = segment as { kind?: unknown; label?: unknown };
  if (!isSegmentKind(kind)) throw refuse(`${field}.kind`, kind, SEGMENT_KINDS);
  if (label !== undefined && (typeof label !== 'string' || label.length > MAX_LABEL_LENGTH))
    throw refuse(`${field}.label`, label, `a string of at most ${MAX_LABEL_LENGTH} characters`);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function refuse(field: string, value: unknown, allowed: string | readonly string[]): KvasirError {
  const words = typeof allowed === 'string' ? allowed : `one of ${allowed.join(', ')}`;
  return new KvasirError('invalid_request', `${field} must be ${words}`, { field, value, allowed });
}
