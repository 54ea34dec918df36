import type { CacheSequence } from '../../cache/sequence.ts';
import type { JoinedPlane, JoinItem, OwnPlane } from '../../cache/types.ts';
import type { JoinAction, JoinPlane } from '../../methods/types.ts';

/** Computes the rows that the views of a join are to share; own ones are left where they lie. */
export function joinItem(sequence: CacheSequence, { views, entries, k, v }: JoinAction): JoinItem {
  const { headDim } = sequence.cache.shape;
  const own = k.kind === 'own' && v.kind === 'own';
  const rows = (own ? [] : views).map(({ layer, head }, n) => {
    const all = sequence.read(layer, head);
    return { k: pick(all.k, entries[n]!, headDim), v: pick(all.v, entries[n]!, headDim) };
  });
  const plane = (spec: JoinPlane, of: 'k' | 'v'): JoinedPlane | OwnPlane =>
    spec.kind === 'own'
      ? { format: spec.format }
      : joined(
          spec,
          rows.map(row => row[of]),
          headDim,
          of,
        );
  return {
    views: views.map(({ layer, head }) => ({ slot: layer, head })),
    entries,
    k: plane(k, 'k'),
    v: plane(v, 'v'),
  };
}

function joined(
  spec: Exclude<JoinPlane, { kind: 'own' }>,
  rows: readonly Float32Array[],
  headDim: number,
  of: 'k' | 'v',
): JoinedPlane {
  return spec.kind === 'directions' ? directions(spec, rows, headDim) : projected(spec, rows, headDim, of);
}

function pick(rows: Float32Array, entries: Uint32Array, width: number): Float32Array {
  const out = new Float32Array(entries.length * width);
  for (const [i, entry] of entries.entries()) out.set(rows.subarray(entry * width, (entry + 1) * width), i * width);
  return out;
}

/**
 * Spherical interpolation of two unit vectors, in float64: [sin((1 - t) w) u + sin(t w) u'] / sin w, normalised; a straight
 * mix where the angle w is too small (MiniCache, section 4.1). Where one row is zero, the direction is the other's.
 */
function directions(
  { t, bits }: Extract<JoinPlane, { kind: 'directions' }>,
  [a, b]: readonly Float32Array[],
  width: number,
): JoinedPlane {
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

/** C = X P, and each view's block of P, transposed (xKV, section 3). */
function projected(
  { basis, rank, bits, key }: Extract<JoinPlane, { kind: 'project' }>,
  rows: readonly Float32Array[],
  width: number,
  of: 'k' | 'v',
): JoinedPlane {
  const count = rows[0]!.length / width;
  const out = new Float32Array(count * rank);
  for (let i = 0; i < count; i++) {
    const line = out.subarray(i * rank, (i + 1) * rank);
    for (const [n, x] of rows.entries()) {
      for (let c = 0; c < width; c++) {
        const value = x[i * width + c]!;
        const from = (n * width + c) * rank;
        for (let r = 0; r < rank; r++) line[r]! += value * basis[from + r]!;
      }
    }
  }
  const bases = rows.map((_, n) => {
    const values = new Float32Array(rank * width);
    for (let c = 0; c < width; c++)
      for (let r = 0; r < rank; r++) values[r * width + c] = basis[(n * width + c) * rank + r]!;
    return { key: `${key}/${of}/${n}`, values };
  });
  return { format: { kind: 'latent', rank, bits, basis: true, norms: false }, rows: out, bases };
}
