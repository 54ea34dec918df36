import {
  LAYOUT_PLANE_K,
  LAYOUT_PLANE_V,
  OUTLIERS_BY_RANGE,
  OUTLIERS_PER_CHANNEL,
  OUTLIERS_PER_TOKEN,
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
import type { ScalarPart } from './format.ts';
import type { PartPlan, PlanePlan } from './plane-layout.ts';

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
function valueRange(part: ScalarPart): readonly [least: number, greatest: number] {
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
