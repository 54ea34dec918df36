import type { CacheSequence } from '../../cache/sequence.ts';
import type { JoinedPlane } from '../../cache/types.ts';
import type { JoinAction, JoinPlane } from '../../methods/types.ts';
import { Space } from '../sense/space.ts';
import { readEntries } from './view-rows.ts';

/**
 * Spherical interpolation of two unit vectors, in float64: [sin((1 - t) w) u + sin(t w) u'] / sin w, normalised; a straight
 * mix where the angle w is too small (MiniCache, section 4.1). Where one row is zero, the direction is the other's.
 */
export function directions(
  sequence: CacheSequence,
  { views, entries }: JoinAction,
  { t, bits }: Extract<JoinPlane, { kind: 'directions' }>,
  of: 'k' | 'v',
): JoinedPlane {
  const width = sequence.cache.shape.headDim;
  const [a, b] = views.map((view, n) => rowsOf(sequence, view, entries[n]!, of));
  const count = a!.length / width;
  const rows = new Float32Array(count * width);
  const norms = [new Float32Array(count), new Float32Array(count)];
  const line = new Float64Array(width);
  for (let i = 0; i < count; i++) {
    let aa = 0;
    let bb = 0;
    let ab = 0;
    for (let c = i * width; c < (i + 1) * width; c++) {
      aa += a![c]! * a![c]!;
      bb += b![c]! * b![c]!;
      ab += a![c]! * b![c]!;
    }
    const [na, nb] = [Math.sqrt(aa), Math.sqrt(bb)];
    norms[0]![i] = na;
    norms[1]![i] = nb;
    const cosine = na > 0 && nb > 0 ? Math.min(1, Math.max(-1, ab / (na * nb))) : 1;
    const angle = Math.acos(cosine);
    const sine = Math.sin(angle);
    const share = na > 0 && nb > 0 ? t : Number(nb > 0);
    const wa = (sine < 1e-6 ? 1 - share : Math.sin((1 - t) * angle) / sine) / (na || 1);
    const wb = (sine < 1e-6 ? share : Math.sin(t * angle) / sine) / (nb || 1);
    let square = 0;
    for (let c = 0; c < width; c++) {
      line[c] = wa * a![i * width + c]! + wb * b![i * width + c]!;
      square += line[c]! * line[c]!;
    }
    const inverse = square > 0 ? 1 / Math.sqrt(square) : 0;
    for (let c = 0; c < width; c++) rows[i * width + c] = line[c]! * inverse;
  }
  return { format: { kind: 'latent', rank: width, bits, basis: false, norms: true }, rows, norms };
}

function rowsOf(
  sequence: CacheSequence,
  view: JoinAction['views'][number],
  entries: Uint32Array,
  of: 'k' | 'v',
): Float32Array {
  const { memory, shape } = sequence.cache;
  const space = new Space(memory);
  try {
    const length = entries.length * shape.headDim;
    const address = space.alloc(length * 4);
    readEntries(sequence, view, entries, of, address);
    return memory.f32.slice(address / 4, address / 4 + length);
  } finally {
    space.free();
  }
}
