import {
  LAYOUT_PLANE_K,
  LAYOUT_PLANE_V,
  OUTLIERS_BY_RANGE,
  OUTLIERS_PER_CHANNEL,
  OUTLIERS_PER_TOKEN,
  PAGE_TOKENS,
  PART_ALONG,
  PART_BITS,
  PART_BYTES,
  PART_CHANNELS,
  PART_CLIP,
  PART_CODES,
  PART_CODES_HIGH,
  PART_GROUP,
  PART_LUT,
  PART_LUT_GREATEST,
  PART_LUT_LEAST,
  PART_OFFSET,
  PART_RANGE,
  PART_SCALE,
  PART_SHARED,
  PART_SIDE,
  PART_THRESHOLD,
  PART_TRANSFORM,
  PART_WIDTH,
  PLANE_A,
  PLANE_B,
  PLANE_BASIS,
  PLANE_BITS,
  PLANE_HEADS,
  PLANE_NORM,
  PLANE_OUTLIER_INDEX,
  PLANE_OUTLIER_RULE,
  PLANE_OUTLIER_VALUE,
  PLANE_OUTLIERS,
  PLANE_PART_COUNT,
  PLANE_PARTS,
  PLANE_RANK,
  PLANE_ROUNDS,
  PLANE_ROW_OFFSET,
  PLANE_ROW_SCALE,
  RANGE_ABSMAX,
  RANGE_DEVIATION,
  RANGE_MINMAX,
  RANGE_SIGN,
  RANGE_TERNARY,
} from '../../kernels/abi.ts';
import type { Memory } from '../backend/types.ts';
import type { JointFormat, LatentFormat, OutlierRule, ScalarFormat, ScalarPart } from './format.ts';
import { channelsOf, checkPlaneFormat } from './plane-check.ts';

/**
 * Where everything of a scalar, latent or joint plane lies (kernels/abi.ts: PLANE, PART). Offsets within a plan count from the
 * plane's start; every array begins at a multiple of 16 bytes.
 */
export interface PlanePlan {
  readonly format: ScalarFormat | LatentFormat | JointFormat;
  /**
   * Bytes in the cell, a multiple of 16; the plane may begin at any multiple of 16. scalar: codes, parameters, outliers, low-rank
   * pair. latent: this view's norms (0 without norms). joint: 0.
   */
  readonly bytes: number;
  /**
   * Bytes of what the views of a page share, outside of cells. latent: codes, then row scales and offsets; joint: codes and
   * parameters; scalar: 0.
   */
  readonly rowsBytes: number;
  /**
   * Bytes of the tables that a PLANE record points to (PART records, LUTs, channel lists), a multiple of 16: the caller owns
   * them for as long as the layout is used. Needs no alignment beyond 16. latent: 0.
   */
  readonly tableBytes: number;
  /**
   * f16 values in the parameter block. scalar: part by part, scale[width] and offset[width] where the part's scope is `shared`
   * (no offsets for `absmax` and `sign`), then side[width]; latent: basis [rank, headDim], one block a view; joint: signs [heads],
   * one block a view (jointSigns). 0: no block.
   */
  readonly sharedValues: number;
  /** Bytes in the cell as bits an element: what the plane costs, but for shared rows and shared parameters. */
  readonly bitsPerElement: number;
  /** scalar and joint. */
  readonly parts: readonly PartPlan[];
  /** Outlier slots of a page; 0: none. */
  readonly outliers: number;
  readonly outlierIndex: number;
  readonly outlierValue: number;
  /** scalar: rank of the pair. latent: width of the rows. */
  readonly rank: number;
  readonly a: number;
  readonly b: number;
  /** latent, in the shared rows. */
  readonly rowScale: number;
  readonly rowOffset: number;
}

/** Where a part's arrays lie: offsets in the plane, or in the parameter block where `shared`; -1: none. */
export interface PartPlan {
  readonly part: ScalarPart;
  readonly channels: readonly number[];
  readonly group: number;
  readonly codes: number;
  readonly codesHigh: number;
  readonly scale: number;
  readonly offset: number;
  readonly shared: boolean;
  readonly side: number;
  /** Offsets in the tables; -1: none. */
  readonly lut: number;
  readonly list: number;
}

/** Raises `invalid_request` where the format does not hold together; `field` is its path in messages. */
export function planPlane(
  format: ScalarFormat | LatentFormat | JointFormat,
  headDim: number,
  plane: 'k' | 'v',
  field: string = plane,
): PlanePlan {
  checkPlaneFormat(format, headDim, plane, field);
  if (format.kind === 'latent') return planLatent(format, headDim);
  return format.kind === 'joint' ? planJoint(format, headDim) : planScalar(format, headDim, plane);
}

/** Slots that outliers take in a page: the share of its elements, rounded up to 8 (arrays take whole 16 bytes). */
export function outlierSlots(rule: OutlierRule | undefined, headDim: number): number {
  return rule && rule.share > 0 ? Math.ceil((rule.share * PAGE_TOKENS * headDim) / 8 - 1e-9) * 8 : 0;
}

/** Hands out the next `bytes`, at a multiple of 16. */
function cursor(): { take(bytes: number): number; readonly end: number } {
  let end = 0;
  return {
    take(bytes) {
      const at = end;
      end += (bytes + 15) & ~15;
      return at;
    },
    get end() {
      return end;
    },
  };
}

function planScalar(format: ScalarFormat, headDim: number, plane: 'k' | 'v'): PlanePlan {
  const cell = cursor();
  const tables = cursor();
  let values = 0;
  tables.take(format.parts.length * PART_BYTES);
  // All codes first: vectors of codes then stay on cache lines of their own however long the parameters are.
  const codes = format.parts.map(part => {
    const width = channelsOf(part, headDim).length;
    const [rows, lanes] = plane === 'k' ? [width, PAGE_TOKENS] : [PAGE_TOKENS, width];
    const low = cell.take(codeBytes(rows, lanes, part.bits === 3 ? 2 : part.bits));
    return [low, part.bits === 3 ? cell.take(codeBytes(rows, lanes, 1)) : -1] as const;
  });
  const parts = format.parts.map((part, i): PartPlan => {
    const channels = channelsOf(part, headDim);
    const width = channels.length;
    const group = part.group ?? (part.along === 'token' ? PAGE_TOKENS : width);
    const shared = part.scope === 'shared';
    const takeShared = () => {
      values += width;
      return (values - width) * 2;
    };
    const count = part.along === 'token' ? (PAGE_TOKENS / group) * width : (width / group) * PAGE_TOKENS;
    const takeParams = () => (shared ? takeShared() : cell.take(count * 2));
    const scale = part.bits === 16 ? -1 : takeParams();
    const offset = part.bits === 16 || !hasOffset(part) ? -1 : takeParams();
    const side = part.side ? takeShared() : -1;
    const lut = part.lut ? tables.take((2 * part.lut.length - 1) * 4) : -1;
    const list = channels.every((channel, at) => channel === at) ? -1 : tables.take(width * 2);
    const [low, codesHigh] = codes[i]!;
    return { part, channels, group, codes: low, codesHigh, scale, offset, shared, side, lut, list };
  });
  const outliers = outlierSlots(format.outliers, headDim);
  const outlierIndex = cell.take(outliers * 2);
  const outlierValue = cell.take(outliers * 2);
  const rank = format.lowRank?.rank ?? 0;
  const a = cell.take(PAGE_TOKENS * rank * 2);
  const b = cell.take(rank * headDim * 2);
  return {
    format,
    bytes: cell.end,
    rowsBytes: 0,
    tableBytes: tables.end,
    sharedValues: values,
    bitsPerElement: (cell.end * 8) / (PAGE_TOKENS * headDim),
    parts,
    ...{ outliers, outlierIndex, outlierValue, rank, a, b, rowScale: -1, rowOffset: -1 },
  };
}

/** Do groups store an offset beside their scale? */
function hasOffset({ range = 'minmax' }: ScalarPart): boolean {
  return range === 'minmax' || range === 'deviation';
}

/** Codes in 16-byte vectors, two rows side by side (kernels/abi.ts, PART); 16 bits: halves, row by row. */
function codeBytes(rows: number, lanes: number, bits: number): number {
  if (bits === 16) return rows * lanes * 2;
  return Math.ceil(rows / 2) * Math.ceil((lanes * bits) / 64) * 16;
}

/** A scalar plane as wide as all heads, shared by their views. */
function planJoint(format: JointFormat, headDim: number): PlanePlan {
  const { parts, heads } = format;
  const plan = planScalar({ kind: 'scalar', parts }, heads * headDim, 'k');
  return { ...plan, format, bytes: 0, rowsBytes: plan.bytes, sharedValues: heads, bitsPerElement: 0 };
}

/** With which signs view `view` of a joint page adds up the transformed heads: a row of the Hadamard matrix of the heads. */
export function jointSigns(heads: number, view: number): Float32Array {
  return Float32Array.from({ length: heads }, (_, head) => {
    let odd = 0;
    for (let rest = head & view; rest > 0; rest &= rest - 1) odd ^= 1;
    return odd ? -1 : 1;
  });
}

function planLatent(format: LatentFormat, headDim: number): PlanePlan {
  const rows = cursor();
  rows.take((PAGE_TOKENS * format.rank * format.bits) / 8);
  const rowScale = format.bits === 16 ? -1 : rows.take(PAGE_TOKENS * 2);
  const rowOffset = format.bits === 16 ? -1 : rows.take(PAGE_TOKENS * 2);
  const bytes = format.norms ? PAGE_TOKENS * 4 : 0;
  return {
    format,
    bytes,
    rowsBytes: rows.end,
    tableBytes: 0,
    sharedValues: format.basis ? format.rank * headDim : 0,
    bitsPerElement: (bytes * 8) / (PAGE_TOKENS * headDim),
    parts: [],
    ...{ outliers: 0, outlierIndex: 0, outlierValue: 0, rank: format.rank, a: 0, b: 0, rowScale, rowOffset },
  };
}

const PLANE_BYTES = LAYOUT_PLANE_V - LAYOUT_PLANE_K;
const RANGES = {
  minmax: RANGE_MINMAX,
  absmax: RANGE_ABSMAX,
  sign: RANGE_SIGN,
  deviation: RANGE_DEVIATION,
  ternary: RANGE_TERNARY,
} as const;
const RULES = { channel: OUTLIERS_PER_CHANNEL, token: OUTLIERS_PER_TOKEN, range: OUTLIERS_BY_RANGE } as const;

/**
 * Writes the PLANE record at `record` (LAYOUT_PLANE_K or _V of a LAYOUT) and the tables at `tables` (plan.tableBytes, the
 * caller's; 0 where a plan has none), for a plane that begins at offset `at` of its cell.
 */
export function writePlane(memory: Memory, record: number, tables: number, plan: PlanePlan, at: number): void {
  const { i32, f32, u16 } = memory;
  i32.fill(0, record >>> 2, (record + PLANE_BYTES) >>> 2);
  const set = (field: number, value: number) => {
    i32[(record + field) >>> 2] = value;
  };
  set(PLANE_RANK, plan.rank);
  if (plan.format.kind === 'latent') {
    set(PLANE_BITS, plan.format.bits);
    set(PLANE_ROW_SCALE, plan.rowScale);
    set(PLANE_ROW_OFFSET, plan.rowOffset);
    set(PLANE_NORM, plan.format.norms ? at : -1);
    set(PLANE_BASIS, plan.format.basis ? 1 : 0);
    return;
  }
  const { outliers, lowRank } = plan.format.kind === 'scalar' ? plan.format : {};
  if (plan.format.kind === 'joint') set(PLANE_HEADS, plan.format.heads);
  set(PLANE_PARTS, tables);
  set(PLANE_PART_COUNT, plan.parts.length);
  set(PLANE_OUTLIERS, plan.outliers);
  set(PLANE_OUTLIER_INDEX, at + plan.outlierIndex);
  set(PLANE_OUTLIER_VALUE, at + plan.outlierValue);
  set(PLANE_A, at + plan.a);
  set(PLANE_B, at + plan.b);
  set(PLANE_NORM, -1);
  set(PLANE_OUTLIER_RULE, outliers ? RULES[outliers.per] : 0);
  set(PLANE_ROUNDS, lowRank?.rounds ?? 3);
  i32.fill(0, tables >>> 2, (tables + plan.tableBytes) >>> 2);
  for (const [i, item] of plan.parts.entries()) {
    const record = tables + i * PART_BYTES;
    writePart(i32, record, tables, item, at);
    const [least, greatest] = valueRange(item.part);
    f32[(record + PART_LUT_LEAST) >>> 2] = least;
    f32[(record + PART_LUT_GREATEST) >>> 2] = greatest;
    f32[(record + PART_CLIP) >>> 2] = item.part.clip ?? 1;
    f32[(record + PART_THRESHOLD) >>> 2] = item.part.threshold ?? 0.5;
    if (item.lut >= 0) {
      f32.set(item.part.lut!, (tables + item.lut) >>> 2);
      f32.set(bordersOf(item.part.lut!, item.part.borders), ((tables + item.lut) >>> 2) + item.part.lut!.length);
    }
    if (item.list >= 0) u16.set(item.channels, (tables + item.list) >>> 1);
  }
}

/** Where codes change: as given, or half way between neighbouring values of the LUT, in f32. */
function bordersOf(lut: readonly number[], given?: readonly number[]): ArrayLike<number> {
  if (given) return given;
  const values = Float32Array.from(lut);
  return values.slice(1).map((high, i) => values[i]! + Math.fround(Math.fround(high - values[i]!) * 0.5));
}

/** What the least and the greatest code (with a LUT: its range) stand for, before scale and offset. */
export function valueRange(part: ScalarPart): readonly [least: number, greatest: number] {
  if (part.lut) return part.lutRange ?? [part.lut[0]!, part.lut.at(-1)!];
  const half = 2 ** (part.bits - 1);
  if (part.range === 'sign' || part.range === 'ternary') return [-1, 1];
  return part.range === 'absmax' ? [-half, half - 1] : [0, 2 * half - 1];
}

function writePart(i32: Int32Array, record: number, tables: number, item: PartPlan, at: number): void {
  const { part } = item;
  const set = (field: number, value: number) => {
    i32[(record + field) >>> 2] = value;
  };
  const param = (offset: number) => (offset < 0 || item.shared ? offset : at + offset);
  set(PART_CHANNELS, item.list < 0 ? 0 : tables + item.list);
  set(PART_WIDTH, item.channels.length);
  set(PART_BITS, part.bits);
  set(PART_ALONG, part.along === 'token' ? 0 : 1);
  set(PART_GROUP, item.group);
  set(PART_CODES, at + item.codes);
  set(PART_CODES_HIGH, item.codesHigh < 0 ? -1 : at + item.codesHigh);
  set(PART_SCALE, param(item.scale));
  set(PART_OFFSET, param(item.offset));
  set(PART_SHARED, item.shared ? 1 : 0);
  set(PART_LUT, item.lut < 0 ? 0 : tables + item.lut);
  set(PART_RANGE, RANGES[part.range ?? 'minmax']);
  set(PART_TRANSFORM, part.transform === 'hadamard' ? 1 : 0);
  set(PART_SIDE, item.side);
}
