import { KvasirError } from '../errors.ts';
import { rangeHi, rangeLo } from './bits.ts';
import type { Content } from './content.ts';
import { Ref } from './ref-list.ts';
import type { KeepItem } from './types.ts';

/** What stays of one view: live masks by reference. */
export interface Masks {
  readonly view: number;
  readonly lo: Uint32Array;
  readonly hi: Uint32Array;
}

const ref = new Ref();

/** Turns a plan into masks, after checking all of it. Raises `invalid_request` naming the first item that is wrong. */
export function masksOf(c: Content, plan: readonly KeepItem[]): Map<number, Masks> {
  const result = new Map<number, Masks>();
  for (const [n, item] of plan.entries()) {
    const view = c.viewOf(item.slot, item.head);
    if (result.has(view)) throw bad(n, 'head', item.head, 'each view at most once');
    result.set(view, maskView(c, view, checkRanges(c, view, item, n)));
  }
  return result;
}

/** The masks of a view as it is. */
export function currentMasks(c: Content, view: number): Masks {
  return maskView(c, view, Uint32Array.of(0, c.entries[view]!));
}

function checkRanges(c: Content, view: number, { ranges }: KeepItem, n: number): Uint32Array {
  const entries = c.entries[view]!;
  const flat = ranges instanceof Uint32Array ? ranges : ranges.flat();
  const length = flat.length;
  if (length % 2 !== 0) throw bad(n, 'ranges', length, 'pairs (from, to)');
  for (let i = 0, last = 0; i < length; i += 2) {
    const from = flat[i]!;
    const to = flat[i + 1]!;
    if (!(Number.isInteger(from) && Number.isInteger(to) && from >= last && to >= from && to <= entries)) {
      throw bad(n, 'ranges', `${from}..${to}`, `ascending disjoint ranges of entries within 0..${entries}`);
    }
    last = to;
  }
  return flat instanceof Uint32Array ? flat : Uint32Array.from(flat);
}

function maskView(c: Content, view: number, ranges: Uint32Array): Masks {
  const count = c.refs[view]!;
  const masks = { view, lo: new Uint32Array(count), hi: new Uint32Array(count) };
  let range = 0;
  let entry = 0;
  for (let i = 0; i < count; i++) {
    ref.load(c.storage.memory, c.ref(view, i));
    const live = ref.live;
    const whole = live === ref.end - ref.first;
    if (whole) {
      // Entry numbers and rows go in step: ranges become runs of bits.
      while (range < ranges.length && ranges[range]! < entry + live) {
        const from = ref.first + Math.max(0, ranges[range]! - entry);
        const to = ref.first + Math.min(live, ranges[range + 1]! - entry);
        masks.lo[i]! |= rangeLo(from, to);
        masks.hi[i]! |= rangeHi(from, to);
        if (ranges[range + 1]! > entry + live) break;
        range += 2;
      }
    } else {
      let at = entry;
      for (let row = ref.first; row < ref.end; row++) {
        if (((row < 32 ? ref.lo >>> row : ref.hi >>> (row - 32)) & 1) === 0) continue;
        while (range < ranges.length && ranges[range + 1]! <= at) range += 2;
        if (range < ranges.length && ranges[range]! <= at) {
          masks.lo[i]! |= rangeLo(row, row + 1);
          masks.hi[i]! |= rangeHi(row, row + 1);
        }
        at++;
      }
    }
    entry += live;
  }
  return masks;
}

function bad(n: number, field: string, value: unknown, allowed: string): KvasirError {
  return new KvasirError('invalid_request', `Cannot keep: ${field} of item ${n} is ${String(value)}.`, {
    field: `plan[${n}].${field}`,
    value,
    allowed,
  });
}
