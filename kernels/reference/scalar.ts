import type { ScalarFormat, ScalarPart } from '../../src/cache/format.ts';
import { decodeHalf, encodeHalf } from './half.ts';

/**
 * The scalar format in plain float64 (src/cache/format.ts). Planes are Float64Array [64][headDim], token-major, whichever of
 * K and V they are; parameters are rounded to f16 where they are stored.
 */
export interface EncodedPart {
  /** [64][width] in the order of the part's channels; f16 numbers where bits is 16. */
  readonly codes: Float64Array;
  /** Rounded to f16; along tokens [64 / group][width], along channels [width / group][64]. */
  readonly scale: Float64Array;
  readonly offset: Float64Array;
  /** How far each element was from the nearest border between two codes, in steps between codes. */
  readonly margin: Float64Array;
}

export interface EncodedPlane {
  readonly parts: readonly EncodedPart[];
  /** Elements token * headDim + channel, ascending, and what they lack. */
  readonly outliers: ReadonlyMap<number, number>;
  /** [64][rank], [rank][headDim]; before rounding to f16. */
  readonly a: Float64Array;
  readonly b: Float64Array;
}

/** Parameters of a block by part: scale, offset and side of each of its channels. */
export interface SharedPart {
  readonly scale?: ArrayLike<number>;
  readonly offset?: ArrayLike<number>;
  readonly side?: ArrayLike<number>;
}

const TOKENS = 64;
export const half = (x: number) => decodeHalf(encodeHalf(x));
export const channelsOf = (part: ScalarPart, headDim: number) =>
  part.channels ?? Array.from({ length: headDim }, (_, i) => i);

/** Which parameter an element of a part uses. */
export function groupOf(part: ScalarPart, width: number, token: number, i: number): number {
  if (part.along === 'token') return Math.floor(token / (part.group ?? TOKENS)) * width + i;
  return Math.floor(i / (part.group ?? width)) * TOKENS + token;
}

/** `count` rows [count][headDim]; where `given` has a part's stored parameters, codes are taken against those. */
export function encodeScalar(
  rows: ArrayLike<number>,
  count: number,
  headDim: number,
  format: ScalarFormat,
  shared: readonly SharedPart[] = [],
  given: readonly { scale: ArrayLike<number>; offset: ArrayLike<number> }[] = [],
): EncodedPlane {
  const x = new Float64Array(TOKENS * headDim);
  for (let t = 0; t < TOKENS; t++) {
    for (let c = 0; c < headDim; c++) {
      const value = rows[Math.min(t, count - 1) * headDim + c]!;
      x[t * headDim + c] = Number.isNaN(value) ? 0 : Math.max(-65504, Math.min(65504, value));
    }
  }
  const flagged = chooseOutliers(x, count, headDim, format, shared);
  const parts = format.parts.map((part, p) => {
    const replaced = format.outliers?.per === 'range' ? new Set<number>() : flagged;
    return encodePart(matrixOf(x, count, headDim, part, shared[p], replaced), headDim, part, shared[p], given[p]);
  });
  const left = decodeParts(parts, headDim, format, shared).map((value, i) => x[i]! - value);
  const rank = format.lowRank?.rank ?? 0;
  const residual = left.map((value, i) => (i >= count * headDim || flagged.has(i) ? 0 : value));
  const [a, b] = fitLowRank(residual, headDim, rank, format.lowRank?.rounds ?? 3);
  const outliers = new Map<number, number>();
  const [storedA, storedB] = [a.map(half), b.map(half)];
  for (const i of [...flagged].sort((i, j) => i - j)) {
    outliers.set(i, half(left[i]! - lowRankAt(storedA, storedB, rank, headDim, i)));
  }
  return { parts, outliers, a, b };
}

export function decodeScalar(
  plane: EncodedPlane,
  headDim: number,
  format: ScalarFormat,
  shared: readonly SharedPart[] = [],
): Float64Array {
  const out = decodeParts(plane.parts, headDim, format, shared);
  const rank = format.lowRank?.rank ?? 0;
  const [a, b] = [plane.a.map(half), plane.b.map(half)];
  return out.map((value, i) => value + lowRankAt(a, b, rank, headDim, i) + (plane.outliers.get(i) ?? 0));
}

function lowRankAt(a: Float64Array, b: Float64Array, rank: number, headDim: number, i: number): number {
  let sum = 0;
  for (let r = 0; r < rank; r++) sum += a[Math.floor(i / headDim) * rank + r]! * b[r * headDim + (i % headDim)]!;
  return sum;
}

/** Orthonormal Walsh-Hadamard transform of each row of a matrix [.][width]. */
export function hadamard(matrix: Float64Array, width: number): Float64Array {
  const parity = (bits: number) => {
    let odd = 0;
    for (let rest = bits; rest > 0; rest &= rest - 1) odd ^= 1;
    return odd;
  };
  return matrix.map((_, at) => {
    const row = at - (at % width);
    let sum = 0;
    for (let j = 0; j < width; j++) sum += parity((at % width) & j) ? -matrix[row + j]! : matrix[row + j]!;
    return sum / Math.sqrt(width);
  });
}

/** The numbers that a part encodes, [64][width]: divided by side factors, outliers replaced, transformed. */
function matrixOf(
  x: Float64Array,
  count: number,
  headDim: number,
  part: ScalarPart,
  shared: SharedPart | undefined,
  flagged: ReadonlySet<number>,
): Float64Array {
  const channels = channelsOf(part, headDim);
  const width = channels.length;
  const matrix = new Float64Array(TOKENS * width);
  const sums = new Map<number, [sum: number, count: number]>();
  const each = (visit: (at: number, element: number, group: number, i: number) => void, tokens: number) => {
    for (let t = 0; t < tokens; t++) {
      for (let i = 0; i < width; i++) visit(t * width + i, t * headDim + channels[i]!, groupOf(part, width, t, i), i);
    }
  };
  each((at, element, _, i) => {
    const side = shared?.side?.[i] ?? 1;
    matrix[at] = side === 0 ? 0 : x[element]! / side;
  }, TOKENS);
  each((at, element, group) => {
    if (flagged.has(element)) return;
    const [sum, n] = sums.get(group) ?? [0, 0];
    sums.set(group, [sum + matrix[at]!, n + 1]);
  }, count);
  each((at, element, group) => {
    const [sum, n] = sums.get(group) ?? [0, 0];
    if (flagged.has(element)) matrix[at] = n > 0 ? sum / n : 0;
  }, count);
  for (let t = count; t < TOKENS; t++) matrix.copyWithin(t * width, (count - 1) * width, count * width);
  return part.transform ? hadamard(matrix, width) : matrix;
}

function encodePart(
  matrix: Float64Array,
  headDim: number,
  part: ScalarPart,
  shared?: SharedPart,
  given?: { scale: ArrayLike<number>; offset: ArrayLike<number> },
): EncodedPart {
  const width = channelsOf(part, headDim).length;
  const margin = new Float64Array(matrix.length).fill(Infinity);
  if (part.bits === 16)
    return { codes: matrix.map(half), scale: new Float64Array(0), offset: new Float64Array(0), margin };
  const groups = new Map<number, number[]>();
  const element = (at: number) => groupOf(part, width, Math.floor(at / width), at % width);
  matrix.forEach((value, at) => {
    const group = groups.get(element(at));
    if (group) group.push(value);
    else groups.set(element(at), [value]);
  });
  const scale = new Float64Array(groups.size);
  const offset = new Float64Array(groups.size);
  const [least, greatest] = rangeOf(part);
  for (const [g, values] of groups) {
    if (shared?.scale) {
      scale[g] = shared.scale[g]!;
      offset[g] = shared.offset?.[g] ?? 0;
      continue;
    }
    const [low, high] = endsOf(part, values);
    const top = part.lut ? Math.max(Math.abs(least), Math.abs(greatest)) : greatest;
    const mean = values.reduce((sum, value) => sum + Math.abs(value), 0) / values.length;
    if (part.range === 'sign') scale[g] = half(mean);
    else if (part.range === 'absmax') scale[g] = half(Math.max(Math.abs(low), Math.abs(high)) / top);
    else if (part.range === 'ternary') {
      const from = thresholdOf(part, values);
      const beyond = values.map(Math.abs).filter(x => x >= from);
      scale[g] = half(beyond.reduce((sum, x) => sum + x, 0) / beyond.length);
    } else {
      scale[g] = half((high - low) / (greatest - least));
      offset[g] = half(low - (least * (high - low)) / (greatest - least));
    }
  }
  const values = valuesOf(part);
  const borders = part.borders ?? values.slice(1).map((high, i) => (values[i]! + high) / 2);
  const codes = matrix.map((value, at) => {
    const g = element(at);
    const s = given ? given.scale[g]! : scale[g]!;
    const o = given ? given.offset[g]! : offset[g]!;
    let z = s === 0 ? 0 : (value - o) / s;
    if (part.range === 'sign') z = Math.sign(value) * 0.5;
    // The threshold alone decides: it stands half way between two codes.
    if (part.range === 'ternary') z = s === 0 ? 0 : value / (2 * thresholdOf(part, groups.get(g)!));
    for (const border of borders) margin[at] = Math.min(margin[at]!, Math.abs(z - border) / Math.max(1, Math.abs(z)));
    return borders.filter(border => z >= border).length;
  });
  return { codes, scale, offset, margin };
}

/** What the least and the greatest code of a group stand for. */
function endsOf({ range, clip = 1 }: ScalarPart, values: readonly number[]): [low: number, high: number] {
  if (range === 'deviation') {
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    const far = values.reduce((sum, x) => sum + Math.abs(x - mean), 0) / values.length;
    return [mean - far, mean + far];
  }
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const aside = ((1 - clip) / 2) * (high - low);
  return [low + aside, high - aside];
}

function thresholdOf({ threshold = 0.5 }: ScalarPart, values: readonly number[]): number {
  return (threshold * values.reduce((sum, x) => sum + Math.abs(x), 0)) / values.length;
}

/** What each code stands for before scale and offset. */
export function valuesOf(part: ScalarPart): number[] {
  if (part.lut) return part.lut.map(Math.fround);
  if (part.range === 'sign') return [-1, 1];
  if (part.range === 'ternary') return [-1, 0, 1];
  const middle = part.range === 'absmax' ? 2 ** (part.bits - 1) : 0;
  return Array.from({ length: 2 ** part.bits }, (_, code) => code - middle);
}

function rangeOf(part: ScalarPart): readonly [number, number] {
  const values = valuesOf(part);
  return part.lutRange ?? [values[0]!, values.at(-1)!];
}

function decodeParts(
  parts: readonly EncodedPart[],
  headDim: number,
  format: ScalarFormat,
  shared: readonly SharedPart[],
): Float64Array {
  const out = new Float64Array(TOKENS * headDim);
  for (const [p, part] of format.parts.entries()) {
    const { codes, scale, offset } = parts[p]!;
    const channels = channelsOf(part, headDim);
    const width = channels.length;
    const values = part.bits === 16 ? [] : valuesOf(part);
    let matrix: Float64Array = codes.map((code, at) => {
      if (part.bits === 16) return code;
      const g = groupOf(part, width, Math.floor(at / width), at % width);
      return values[code]! * scale[g]! + offset[g]!;
    });
    if (part.transform) matrix = hadamard(matrix, width);
    matrix.forEach((value, at) => {
      out[Math.floor(at / width) * headDim + channels[at % width]!] = value * (shared[p]?.side?.[at % width] ?? 1);
    });
  }
  return out;
}

/** Elements token * headDim + channel of the first `count` tokens. */
export function chooseOutliers(
  x: Float64Array,
  count: number,
  headDim: number,
  format: ScalarFormat,
  shared: readonly SharedPart[] = [],
): Set<number> {
  const rule = format.outliers;
  const chosen = new Set<number>();
  if (!rule || rule.share === 0) return chosen;
  if (rule.per === 'range') {
    const beyond = new Map<number, number>();
    for (const [p, part] of format.parts.entries()) {
      const { scale, offset, side } = shared[p] ?? {};
      if (!scale) continue;
      const [least, greatest] = rangeOf(part);
      for (const [i, channel] of channelsOf(part, headDim).entries()) {
        const ends = [least, greatest].map(end => (end * scale[i]! + (offset?.[i] ?? 0)) * (side?.[i] ?? 1));
        for (let t = 0; t < count; t++) {
          const value = x[t * headDim + channel]!;
          const far = Math.max(value - Math.max(...ends), Math.min(...ends) - value);
          if (far > 0) beyond.set(t * headDim + channel, far);
        }
      }
    }
    const order = [...beyond].sort((i, j) => j[1] - i[1] || i[0] - j[0]);
    for (const [i] of order.slice(0, slotsOf(rule.share, headDim))) chosen.add(i);
    return chosen;
  }
  const [vectors, length, step, stride] =
    rule.per === 'channel' ? [headDim, count, headDim, 1] : [count, headDim, 1, headDim];
  const slots = slotsOf(rule.share, headDim);
  const most = 2 * (rule.per === 'channel' ? headDim : TOKENS);
  const each = Math.floor(slots / most);
  /** What a vector has left, ascending. */
  const left = Array.from({ length: vectors }, (_, v) =>
    Array.from({ length }, (_, i) => v * stride + i * step).sort((i, j) => x[i]! - x[j]! || i - j),
  );
  const takeLeast = (rest: number[]) => chosen.add(rest.shift()!);
  /** Among equals the first. */
  const takeGreatest = (rest: number[]) => {
    const at = rest.findIndex(i => x[i] === x[rest.at(-1)!]);
    chosen.add(rest.splice(at, 1)[0]!);
  };
  for (const rest of left) {
    for (let n = 0; n < each && rest.length > 0; n++) takeGreatest(rest);
    for (let n = 0; n < each && rest.length > 0; n++) takeLeast(rest);
  }
  const span = (rest: readonly number[], from: number, to: number) =>
    rest.length < 2 ? 0 : (x[rest.at(to)!]! - x[rest.at(from)!]!) ** 2;
  for (let n = slots - each * most; n > 0; n--) {
    let [best, take] = [0, () => {}];
    for (const rest of left) {
      const withoutGreatest = span(rest, 0, -1) - span(rest, 0, -2);
      const withoutLeast = span(rest, 0, -1) - span(rest, 1, -1);
      if (withoutGreatest > best) [best, take] = [withoutGreatest, () => takeGreatest(rest)];
      if (withoutLeast > best) [best, take] = [withoutLeast, () => takeLeast(rest)];
    }
    take();
  }
  return chosen;
}

/** Outlier slots of a page. */
const slotsOf = (share: number, headDim: number) => 8 * Math.ceil((share * TOKENS * headDim) / 8 - 1e-9);

/** A [64][rank] orthonormal, B [rank][headDim], by power iteration from the kernels' fixed start. */
export function fitLowRank(
  e: Float64Array,
  headDim: number,
  rank: number,
  rounds: number,
): [Float64Array, Float64Array] {
  const a = Array.from({ length: rank }, () => new Float64Array(TOKENS));
  let seed = 0x9e3779b9;
  const b = Array.from({ length: rank }, () =>
    Float64Array.from({ length: headDim }, () => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return (seed >>> 8) / 2 ** 24;
    }),
  );
  const dot = (x: Float64Array, y: Float64Array) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  for (let round = 0; round < rounds; round++) {
    for (let r = 0; r < rank; r++) {
      for (let t = 0; t < TOKENS; t++) a[r]![t] = dot(e.subarray(t * headDim, (t + 1) * headDim), b[r]!);
      const before = dot(a[r]!, a[r]!);
      for (let pass = 0; pass < 2; pass++) {
        for (let s = 0; s < r; s++) {
          const along = dot(a[r]!, a[s]!);
          for (let t = 0; t < TOKENS; t++) a[r]![t]! -= along * a[s]![t]!;
        }
      }
      const after = dot(a[r]!, a[r]!);
      const factor = after > before * 1e-10 && after > 1e-30 ? 1 / Math.sqrt(after) : 0;
      for (let t = 0; t < TOKENS; t++) a[r]![t]! *= factor;
    }
    for (let r = 0; r < rank; r++) {
      b[r]!.fill(0);
      for (let i = 0; i < e.length; i++) b[r]![i % headDim]! += e[i]! * a[r]![Math.floor(i / headDim)]!;
    }
  }
  const flatA = new Float64Array(TOKENS * rank);
  for (let i = 0; i < flatA.length; i++) flatA[i] = a[i % rank]![Math.floor(i / rank)]!;
  const flatB = new Float64Array(rank * headDim);
  for (let r = 0; r < rank; r++) flatB.set(b[r]!, r * headDim);
  return [flatA, flatB];
}
