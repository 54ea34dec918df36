import { KvasirError } from '../errors.ts';
import type { Content } from './content.ts';
import { hotCopies, type ParkedUnit } from './parked.ts';

let pair = new Float32Array(0);

/** A unit of a view by its number. Raises `invalid_request`. */
export function unitOf(c: Content, view: number, id: number): ParkedUnit {
  const units = c.parked.get(view)?.units ?? [];
  const unit = units[id];
  if (unit) return unit;
  throw new KvasirError('invalid_request', `There is no parked unit ${id}.`, {
    field: 'unit',
    value: id,
    allowed: units.length === 0 ? 'none: nothing is parked' : `units 0 to ${units.length - 1}`,
  });
}

/** See CacheSequence.pieceBounds. */
export function pieceBounds(c: Content, view: number, id: number, level: number, piece: number): Float32Array {
  const { stored } = unitOf(c, view, id);
  const floats = 4 * c.storage.shape.headDim;
  if (pair.length !== floats) pair = new Float32Array(floats);
  const bytes = new Uint8Array(pair.buffer);
  if (stored.tier === 'memory') {
    stored.readPair(bytes, level, piece);
    c.traffic.memory += bytes.length;
    return pair;
  }
  const hot = hotCopies(c, view);
  const number = stored.pairNumber(level, piece);
  const copy = hot.get(number);
  if (copy) {
    bytes.set(copy);
    c.traffic.memory += bytes.length;
    return pair;
  }
  stored.readPair(bytes, level, piece);
  c.traffic.file += bytes.length;
  hot.put(number, bytes);
  return pair;
}
