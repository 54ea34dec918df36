import { PAGE_TOKENS, PART_BYTES } from '../../kernels/abi.ts';
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
