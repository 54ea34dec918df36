import {
  FORMAT_F16,
  FORMAT_F32,
  FORMAT_INT8,
  FORMAT_JOINT,
  FORMAT_LATENT,
  FORMAT_SCALAR,
  LAYOUT_BIAS,
  LAYOUT_BYTES,
  LAYOUT_CELL_BYTES,
  LAYOUT_FORMAT_K,
  LAYOUT_FORMAT_V,
  LAYOUT_HEAD_DIM,
  LAYOUT_HEADER,
  LAYOUT_K,
  LAYOUT_K_SCALE,
  LAYOUT_KEYS_UNROTATED,
  LAYOUT_PLANE_K,
  LAYOUT_PLANE_V,
  LAYOUT_ROTARY,
  LAYOUT_V,
  LAYOUT_V_SCALE,
  PAGE_TOKENS,
} from '../../kernels/abi.ts';
import type { Memory } from '../backend/types.ts';
import { blockBytes } from './arrays.ts';
import { isExact, type PlaneFormat } from './format.ts';
import { type PlanePlan, planPlane } from './plane-layout.ts';
import { writePlane } from './plane-record.ts';
import type { CacheShape, FormatName } from './types.ts';

const FORMAT_CODES: Readonly<Record<FormatName, number>> = { f32: FORMAT_F32, f16: FORMAT_F16, int8: FORMAT_INT8 };
const PLANE_CODES = { scalar: FORMAT_SCALAR, latent: FORMAT_LATENT, joint: FORMAT_JOINT } as const;
const ELEMENT_BYTES: Readonly<Record<FormatName, number>> = { f32: 4, f16: 2, int8: 1 };
const HEADER_BYTES = 16;

/** What a layout is made of; PageOptions is one. */
export interface CellOptions {
  readonly formatK: PlaneFormat;
  readonly formatV: PlaneFormat;
  readonly columns?: readonly string[];
  readonly keysUnrotated?: boolean;
}

/** `exact`: rows can be appended and moved. `encoded`: immutable. `joint`: immutable, of several views, with shared planes. */
export type LayoutKind = 'exact' | 'encoded' | 'joint';

/** How the bytes of one (slot, KV head) cell of a page are used: a LAYOUT record and what only the host needs to know. */
export interface CellLayout {
  /** Index in the layout table. */
  readonly id: number;
  readonly kind: LayoutKind;
  readonly formatK: PlaneFormat;
  readonly formatV: PlaneFormat;
  readonly keysUnrotated: boolean;
  /** Offset of each named column (f32[64]) in the cell; they lie side by side from `columnsAt`, nothing but padding after them. */
  readonly columns: ReadonlyMap<string, number>;
  readonly columnsAt: number;
  readonly cellBytes: number;
  /** Offset of the four addresses (LAYOUT_HEADER) in the cell; -1: none. */
  readonly headerAt: number;
  /** Bytes of the shared rows at the start of a page, before its cells: K's, then V's from `sharedV` on. */
  readonly sharedBytes: number;
  readonly sharedV: number;
  /** Stretches (offset, bytes) of the cell that hold a plane, for verbatim copies. */
  readonly extents: Readonly<Record<'k' | 'v', readonly (readonly [at: number, bytes: number])[]>>;
  /** f16 values in the parameter blocks; 0: none. */
  readonly sharedValuesK: number;
  readonly sharedValuesV: number;
}

/** A layout without its number, and what it takes to write its record. */
export interface CellPlan {
  readonly layout: Omit<CellLayout, 'id'>;
  /** Bytes of the tables that its record points to. */
  readonly tableBytes: number;
  readonly planK: PlanePlan | null;
  readonly planV: PlanePlan | null;
  readonly scaleK: number;
  readonly scaleV: number;
  readonly tablesV: number;
}

/**
 * Planes lie in the order K, V, scales of K, scales of V, header, columns. A cell that holds planes is a multiple of 64
 * bytes; those of joint pages, which hold norms at most, of 16. Raises `invalid_request` on a format that does not hold
 * together.
 */
export function planCell(options: CellOptions, { headDim }: CacheShape): CellPlan {
  const { formatK, formatV } = options;
  const planK = isExact(formatK) ? null : planPlane(formatK, headDim, 'k');
  const planV = isExact(formatV) ? null : planPlane(formatV, headDim, 'v');
  let bytes = 0;
  const take = (size: number): number => {
    const at = bytes;
    bytes += (size + 15) & ~15;
    return at;
  };
  const planeBytes = (format: PlaneFormat, plan: PlanePlan | null) =>
    isExact(format) ? headDim * PAGE_TOKENS * ELEMENT_BYTES[format] : plan!.bytes;
  const k = take(planeBytes(formatK, planK));
  const v = take(planeBytes(formatV, planV));
  const endV = bytes;
  const scaleK = formatK === 'int8' ? take(PAGE_TOKENS * 4) : 0;
  const scaleV = formatV === 'int8' ? take(PAGE_TOKENS * 4) : 0;
  const sharedV = planK?.rowsBytes ?? 0;
  const sharedBytes = sharedV + (planV?.rowsBytes ?? 0);
  const sharedValuesK = planK?.sharedValues ?? 0;
  const sharedValuesV = planV?.sharedValues ?? 0;
  const headerAt = sharedBytes + sharedValuesK + sharedValuesV > 0 ? take(HEADER_BYTES) : -1;
  const columnsAt = bytes;
  const columns = new Map((options.columns ?? []).map(name => [name, take(PAGE_TOKENS * 4)]));
  const kind = sharedBytes > 0 ? 'joint' : planK || planV ? 'encoded' : 'exact';
  const scales = (at: number): [number, number][] => (at > 0 ? [[at, PAGE_TOKENS * 4]] : []);
  return {
    layout: {
      ...{ kind, formatK, formatV, keysUnrotated: options.keysUnrotated ?? false, columns, columnsAt, headerAt },
      cellBytes: kind === 'joint' ? bytes : blockBytes(bytes),
      ...{ sharedBytes, sharedV, sharedValuesK, sharedValuesV },
      extents: { k: [[k, v - k], ...scales(scaleK)], v: [[v, endV - v], ...scales(scaleV)] },
    },
    tableBytes: (planK?.tableBytes ?? 0) + (planV?.tableBytes ?? 0),
    ...{ planK, planV, scaleK, scaleV, tablesV: planK?.tableBytes ?? 0 },
  };
}

/** Writes the LAYOUT record at `record` and the tables at `tables` (plan.tableBytes). */
export function writeCell(memory: Memory, record: number, tables: number, plan: CellPlan, shape: CacheShape): void {
  const { layout, planK, planV } = plan;
  const { u32 } = memory;
  const at = record >>> 2;
  const k = layout.extents.k[0]![0];
  const v = layout.extents.v[0]![0];
  u32.fill(0, at, at + LAYOUT_BYTES / 4);
  u32[at + LAYOUT_FORMAT_K / 4] = formatCode(layout.formatK);
  u32[at + LAYOUT_FORMAT_V / 4] = formatCode(layout.formatV);
  u32[at + LAYOUT_HEAD_DIM / 4] = shape.headDim;
  u32[at + LAYOUT_K / 4] = k;
  u32[at + LAYOUT_V / 4] = v;
  u32[at + LAYOUT_K_SCALE / 4] = plan.scaleK;
  u32[at + LAYOUT_V_SCALE / 4] = plan.scaleV;
  u32[at + LAYOUT_BIAS / 4] = layout.columns.get('bias') ?? 0;
  u32[at + LAYOUT_CELL_BYTES / 4] = layout.cellBytes;
  u32[at + LAYOUT_KEYS_UNROTATED / 4] = layout.keysUnrotated ? 1 : 0;
  u32[at + LAYOUT_ROTARY / 4] = shape.rotary;
  u32[at + LAYOUT_HEADER / 4] = layout.headerAt + 1;
  // Offsets of a joint plane count from the start of what its views share.
  if (planK) writePlane(memory, record + LAYOUT_PLANE_K, tables, planK, planK.format.kind === 'joint' ? 0 : k);
  if (planV) writePlane(memory, record + LAYOUT_PLANE_V, tables + plan.tablesV, planV, v);
}

function formatCode(format: PlaneFormat): number {
  if (isExact(format)) return FORMAT_CODES[format];
  return PLANE_CODES[format.kind];
}
