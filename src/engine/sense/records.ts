import {
  ATTEND_GROUP,
  ATTEND_HEAD_DIM,
  ATTEND_KEY_COARSE,
  ATTEND_KEY_FINE,
  ATTEND_LAYOUTS,
  ATTEND_OUT,
  ATTEND_OUT_STRIDE,
  ATTEND_PARTIAL,
  ATTEND_POSITIONS,
  ATTEND_Q,
  ATTEND_Q_STRIDE,
  ATTEND_REF_COUNT,
  ATTEND_REFS,
  ATTEND_ROWS,
  ATTEND_SCALE,
  ATTEND_TURN_COUNT,
  ATTEND_TURNS,
  ATTEND_WINDOW,
  REF_BYTES,
  SENSE_ENTROPY,
  SENSE_FROM,
  SENSE_GROUP,
  SENSE_M2,
  SENSE_MAX,
  SENSE_MEAN,
  SENSE_NORMS,
  SENSE_ROWS,
  SENSE_SCORE_STRIDE,
  SENSE_SCORES,
  SENSE_SEEN,
  SENSE_STRIDE,
  SENSE_SUM,
  SENSE_TO,
} from '../../../kernels/abi.ts';
import type { Memory } from '../../backend/types.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import type { ModelConfig } from '../../model/types.ts';
import type { RotaryTable } from '../rotary.ts';

/** Statistics that SENSE keeps for every entry, in the order of their planes. */
export const PLANES = ['sum', 'max', 'entropy', 'mean', 'm2'] as const;
export type Plane = (typeof PLANES)[number];

const PLANE_FIELDS: Readonly<Record<Plane, number>> = {
  sum: SENSE_SUM,
  max: SENSE_MAX,
  entropy: SENSE_ENTROPY,
  mean: SENSE_MEAN,
  m2: SENSE_M2,
};

/** Writes SENSE_ROWS and SENSE records of one layer; one object serves call after call. */
export class SenseRecords {
  readonly group: number;
  readonly #memory: Memory;
  readonly #config: ModelConfig;
  readonly #ropes: readonly RotaryTable[];
  #sequence: CacheSequence | null = null;
  #layer = 0;
  #q = 0;
  #positions = 0;
  #coarse = 0;
  #fine = 0;

  constructor(memory: Memory, config: ModelConfig, ropes: readonly RotaryTable[]) {
    this.#memory = memory;
    this.#config = config;
    this.#ropes = ropes;
    this.group = config.heads / config.kvHeads;
  }

  ropeOf(layer: number): RotaryTable {
    return this.#ropes[this.#config.layerRope[layer]!]!;
  }

  /** Makes the rotary tables for queries up to a position. May grow the memory: before addresses and views are taken. */
  ensure(sequence: CacheSequence, layer: number, position: number): void {
    const rope = this.ropeOf(layer);
    let least = 0;
    for (const shift of sequence.shifts()) if (shift < least) least = shift;
    rope.ensure(position + 1 - least);
    this.#coarse = 0;
    this.#fine = 0;
    if (!unrotated(sequence)) return;
    const tables = rope.keyTables();
    this.#coarse = tables.coarse;
    this.#fine = tables.fine;
  }

  /**
   * What the records of a call have in common.
   * @param q address of row 0 of the queries
   * @param positions address of i32 positions of the rows, row 0 first
   */
  begin(sequence: CacheSequence, layer: number, q: number, positions: number): void {
    this.#sequence = sequence;
    this.#layer = layer;
    this.#q = q;
    this.#positions = positions;
  }

  /**
   * A SENSE_ROWS record: rows [row, row + rows) of a head's group over references [first, first + count) of its view.
   * @param norms, scores where statistics and scores of these rows go; scores of query vectors `stride` floats apart
   */
  rows(
    at: number,
    head: number,
    first: number,
    count: number,
    row: number,
    rows: number,
    turns: number,
    norms: number,
    scores: number,
    stride: number,
  ): void {
    const { heads, headDim, attentionScale, layerWindow } = this.#config;
    const { i32, f32 } = this.#memory;
    const sequence = this.#sequence!;
    const width = heads * headDim;
    const word = at / 4;
    i32[word + ATTEND_REFS / 4] = sequence.refs(this.#layer, head) + first * REF_BYTES;
    i32[word + ATTEND_REF_COUNT / 4] = count;
    i32[word + ATTEND_Q / 4] = this.#q + (row * width + head * this.group * headDim) * 4;
    i32[word + ATTEND_Q_STRIDE / 4] = width;
    i32[word + ATTEND_ROWS / 4] = rows;
    i32[word + ATTEND_GROUP / 4] = this.group;
    i32[word + ATTEND_HEAD_DIM / 4] = headDim;
    i32[word + ATTEND_OUT / 4] = scores;
    i32[word + ATTEND_OUT_STRIDE / 4] = stride;
    i32[word + ATTEND_POSITIONS / 4] = this.#positions + row * 4;
    i32[word + ATTEND_TURNS / 4] = turns;
    i32[word + ATTEND_TURN_COUNT / 4] = sequence.shifts().length;
    i32[word + ATTEND_WINDOW / 4] = layerWindow[this.#layer]!;
    f32[word + ATTEND_SCALE / 4] = attentionScale;
    i32[word + ATTEND_PARTIAL / 4] = norms;
    i32[word + ATTEND_LAYOUTS / 4] = sequence.cache.layouts;
    i32[word + ATTEND_KEY_COARSE / 4] = this.#coarse;
    i32[word + ATTEND_KEY_FINE / 4] = this.#fine;
  }

  /**
   * A SENSE record of entries [from, to), no plane asked.
   * @param stride floats between query vectors of the scores, and between query heads of the planes
   */
  entries(
    at: number,
    scores: number,
    norms: number,
    rows: number,
    from: number,
    to: number,
    stride: number,
    seen: number,
  ): void {
    const { i32 } = this.#memory;
    const word = at / 4;
    i32[word + SENSE_SCORES / 4] = scores;
    i32[word + SENSE_SCORE_STRIDE / 4] = stride;
    i32[word + SENSE_NORMS / 4] = norms;
    i32[word + SENSE_ROWS / 4] = rows;
    i32[word + SENSE_GROUP / 4] = this.group;
    i32[word + SENSE_FROM / 4] = from;
    i32[word + SENSE_TO / 4] = to;
    i32[word + SENSE_STRIDE / 4] = stride;
    i32[word + SENSE_SEEN / 4] = seen;
    for (const plane of PLANES) i32[word + PLANE_FIELDS[plane] / 4] = 0;
  }

  /** Asks for a plane: f32 [group][stride] at an address. */
  plane(at: number, plane: Plane, address: number): void {
    this.#memory.i32[(at + PLANE_FIELDS[plane]) / 4] = address;
  }
}

/** Floats that a line of so many entries takes: whole vectors, the last of which may be written beyond the entries. */
export function lineOf(entries: number): number {
  return (entries + 3) & ~3;
}

function unrotated(sequence: CacheSequence): boolean {
  const { pages, overrides } = sequence.options;
  if (pages.keysUnrotated) return true;
  if (overrides) for (const options of overrides.values()) if (options.keysUnrotated) return true;
  return false;
}
