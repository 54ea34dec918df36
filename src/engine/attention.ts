import {
  ATTEND_BYTES,
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
  KIND_ATTEND,
  KIND_MERGE,
  MERGE_BYTES,
  MERGE_GROUP,
  MERGE_HEAD_DIM,
  MERGE_OUT,
  MERGE_OUT_STRIDE,
  MERGE_PART_STRIDE,
  MERGE_PARTIAL,
  MERGE_PARTS,
  MERGE_ROWS,
  REF_BYTES,
  TURN_BYTES,
} from '../../kernels/abi.ts';
import type { Kernels } from '../backend/types.ts';
import type { ModelConfig } from '../model/types.ts';
import { Placement } from './placement.ts';
import type { RotaryTable } from './rotary.ts';
import type { Work } from './work.ts';
import { type RowStore, Scratch, type Workspace } from './workspace.ts';

/** Query vectors (rows x group) of one record: enough to reuse each loaded key often, few enough to share out. */
const QUERIES_PER_ITEM = 64;
/** Decode splits a long view every so many references (1,024 tokens), so that few heads can still use all threads. */
const SPLIT_REFS = 16;

/** Writes and runs the attention records of one layer for a list of works. */
export class Attention {
  readonly #kernels: Kernels;
  readonly #workspace: Workspace;
  readonly #ropes: readonly RotaryTable[];
  readonly #deterministic: boolean;
  readonly #config: ModelConfig;
  readonly #group: number;
  readonly #rowsPerItem: number;
  readonly #placement: Placement;
  /** REF records of views that are read in part. */
  readonly #reads: Scratch;
  /** [works][kvHeads]: where the records lie that a work reads of a view, and how many. */
  readonly #refs: number[] = [];
  readonly #refCounts: number[] = [];
  /** Records and splits of the layer being run. */
  #items = 0;
  #merges = 0;
  #partial = 0;

  constructor(kernels: Kernels, workspace: Workspace, ropes: readonly RotaryTable[], deterministic: boolean) {
    this.#kernels = kernels;
    this.#workspace = workspace;
    this.#ropes = ropes;
    this.#deterministic = deterministic;
    this.#config = workspace.config;
    this.#group = this.#config.heads / this.#config.kvHeads;
    this.#rowsPerItem = Math.max(1, Math.floor(QUERIES_PER_ITEM / this.#group));
    this.#placement = new Placement(workspace, ropes, this.#rowsPerItem);
    this.#reads = new Scratch(workspace.memory);
  }

  /** A new list of works: nothing of the last one's placement counts. */
  begin(): void {
    this.#placement.begin();
  }

  /** Where the rows of a layer stand; before its rows are appended. */
  place(works: readonly Work[], layer: number): void {
    this.#placement.place(works, layer);
  }

  /** Address of the rotary table of work `n`'s rows at a layer. */
  turnOf(n: number, layer: number): number {
    return this.#placement.turnOf(n, this.#config.layerRope[layer]!);
  }

  dispose(): void {
    this.#placement.dispose();
    this.#reads.dispose();
  }

  run(works: readonly Work[], layer: number, store: RowStore, storeFrom: number): void {
    const { items, merges, partials } = this.#workspace;
    this.#locate(works, layer);
    this.#reserve(works);
    this.#items = 0;
    this.#merges = 0;
    this.#partial = partials.address;
    let turns = this.#placement.turns(this.#config.layerRope[layer]!);
    let row = 0;
    for (const [n, work] of works.entries()) {
      for (let from = 0; from < work.rows; from += this.#rowsPerItem) {
        const rows = Math.min(this.#rowsPerItem, work.rows - from);
        this.#writeBlock(work, n, layer, row + from, rows, store, storeFrom, turns);
        turns += work.sequence.shifts().length * TURN_BYTES;
      }
      row += work.rows;
    }
    this.#kernels.run(KIND_ATTEND, items.address, this.#items);
    if (this.#merges > 0) this.#kernels.run(KIND_MERGE, merges.address, this.#merges);
  }

  /** Finds the references that each work reads at a layer. */
  #locate(works: readonly Work[], layer: number): void {
    const { kvHeads } = this.#config;
    let room = 0;
    for (const { sequence, hooks, reads } of works)
      if ((reads ?? hooks)?.readsPart?.(layer))
        for (let head = 0; head < kvHeads; head++) room += sequence.refCount(layer, head);
    let address = room > 0 ? this.#reads.ensure(room * REF_BYTES) : 0;
    for (const [n, { sequence, hooks, reads }] of works.entries()) {
      const part = reads ?? hooks;
      const partial = part?.readsPart?.(layer) ?? false;
      for (let head = 0; head < kvHeads; head++) {
        const at = n * kvHeads + head;
        this.#refs[at] = partial ? address : sequence.refs(layer, head);
        this.#refCounts[at] = partial ? part!.writeRefs!(layer, head, address) : sequence.refCount(layer, head);
        if (partial) address += this.#refCounts[at]! * REF_BYTES;
      }
    }
  }

  /** Makes room for the most records that this layer can need. */
  #reserve(works: readonly Work[]): void {
    const { kvHeads, headDim } = this.#config;
    let count = 0;
    let splits = 0;
    for (const [n, work] of works.entries())
      for (let head = 0; head < kvHeads; head++) {
        const parts = this.#parts(work, this.#refCounts[n * kvHeads + head]!);
        count += Math.ceil(work.rows / this.#rowsPerItem) * parts;
        if (parts > 1) splits += parts;
      }
    this.#workspace.items.ensure(count * ATTEND_BYTES);
    this.#workspace.merges.ensure(works.length * kvHeads * MERGE_BYTES);
    this.#workspace.partials.ensure(splits * this.#partBytes(1, headDim));
  }

  #parts(work: Work, refCount: number): number {
    return this.#deterministic || work.rows > 1 || refCount < 2 * SPLIT_REFS ? 1 : Math.ceil(refCount / SPLIT_REFS);
  }

  #partBytes(rows: number, headDim: number): number {
    return rows * this.#group * (headDim + 2) * 4;
  }

  #writeBlock(
    work: Work,
    n: number,
    layer: number,
    row: number,
    rows: number,
    store: RowStore,
    storeFrom: number,
    turns: number,
  ): void {
    const { heads, kvHeads, headDim, attentionScale, layerWindow } = this.#config;
    const { items, merges, memory, positions, q } = this.#workspace;
    const group = this.#group;
    const stride = heads * headDim;
    const { sequence } = work;
    const unrotated = sequence.options.pages.keysUnrotated
      ? this.#ropes[this.#config.layerRope[layer]!]!.keyTables()
      : null;
    const { i32, f32 } = memory;
    for (let head = 0; head < kvHeads; head++) {
      const refs = this.#refs[n * kvHeads + head]!;
      const refCount = this.#refCounts[n * kvHeads + head]!;
      const parts = this.#parts(work, refCount);
      const headOffset = head * group * headDim;
      const out = store.attention + ((storeFrom + row) * stride + headOffset) * 4;
      const partBytes = this.#partBytes(rows, headDim);
      for (let part = 0; part < parts; part++) {
        const first = part * SPLIT_REFS;
        const at = (items.address + this.#items++ * ATTEND_BYTES) / 4;
        i32[at + ATTEND_REFS / 4] = refs + first * REF_BYTES;
        i32[at + ATTEND_REF_COUNT / 4] = parts === 1 ? refCount : Math.min(SPLIT_REFS, refCount - first);
        i32[at + ATTEND_Q / 4] = q + (row * stride + headOffset) * 4;
        i32[at + ATTEND_Q_STRIDE / 4] = stride;
        i32[at + ATTEND_ROWS / 4] = rows;
        i32[at + ATTEND_GROUP / 4] = group;
        i32[at + ATTEND_HEAD_DIM / 4] = headDim;
        i32[at + ATTEND_OUT / 4] = out;
        i32[at + ATTEND_OUT_STRIDE / 4] = stride;
        i32[at + ATTEND_POSITIONS / 4] = positions + row * 4;
        i32[at + ATTEND_TURNS / 4] = turns;
        i32[at + ATTEND_TURN_COUNT / 4] = sequence.shifts().length;
        i32[at + ATTEND_WINDOW / 4] = layerWindow[layer]!;
        f32[at + ATTEND_SCALE / 4] = attentionScale;
        i32[at + ATTEND_PARTIAL / 4] = parts === 1 ? 0 : this.#partial + part * partBytes;
        i32[at + ATTEND_LAYOUTS / 4] = sequence.cache.layouts;
        i32[at + ATTEND_KEY_COARSE / 4] = unrotated?.coarse ?? 0;
        i32[at + ATTEND_KEY_FINE / 4] = unrotated?.fine ?? 0;
      }
      if (parts > 1) {
        const at = (merges.address + this.#merges++ * MERGE_BYTES) / 4;
        i32[at + MERGE_PARTIAL / 4] = this.#partial;
        i32[at + MERGE_PART_STRIDE / 4] = partBytes;
        i32[at + MERGE_PARTS / 4] = parts;
        i32[at + MERGE_ROWS / 4] = rows;
        i32[at + MERGE_GROUP / 4] = group;
        i32[at + MERGE_HEAD_DIM / 4] = headDim;
        i32[at + MERGE_OUT / 4] = out;
        i32[at + MERGE_OUT_STRIDE / 4] = stride;
        this.#partial += parts * partBytes;
      }
    }
  }
}
