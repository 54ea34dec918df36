import {
  COPY_BYTES,
  COPY_COUNT,
  COPY_FROM,
  COPY_LAYOUT,
  COPY_LAYOUTS,
  COPY_PAIRS,
  COPY_TO,
  KIND_COPY,
} from '../../kernels/abi.ts';
import { KvasirError } from '../errors.ts';
import { notePeak } from './account.ts';
import { countBits, rangeHi, rangeLo } from './bits.ts';
import type { Content } from './content.ts';
import { currentMasks, type Masks, masksOf } from './keep-plan.ts';
import { discardPack, type Move, type Pack, planPacks } from './pack.ts';
import { PageTable } from './pages.ts';
import { renewPromise } from './promise.ts';
import { Ref, RefList } from './ref-list.ts';
import type { KeepItem, KeepOptions, PreparedKeep } from './types.ts';
import type { Undo } from './undo.ts';

/** See CacheSequence.prepareKeep. */
export function prepareKeep(c: Content, plan: readonly KeepItem[], options: KeepOptions = {}): PreparedKeep {
  const threshold = options.threshold ?? 1;
  if (!(threshold >= 0 && threshold <= 1)) {
    throw new KvasirError('invalid_request', 'Cannot keep: bad threshold.', {
      field: 'threshold',
      value: threshold,
      allowed: '0 to 1',
    });
  }
  const named = masksOf(c, plan);
  let kept = 0;
  for (const { lo, hi } of named.values()) {
    for (let i = 0; i < lo.length; i++) kept += countBits(lo[i]!) + countBits(hi[i]!);
  }
  const packs: Pack[] = [];
  const touched = new Set([...named.keys()].map(view => c.spans.groupOfView[view]!));
  for (const index of touched) {
    const group = c.spans.groups[index]!;
    const masks = [...group.views].map(view => named.get(view) ?? currentMasks(c, view));
    packs.push(...planPacks(c, group, masks, threshold));
  }
  try {
    return new Keep(c, named, packs, kept, allocateMoves(c, packs));
  } catch {
    // No work space to move rows with: the holes stay.
    for (const pack of packs) discardPack(c, pack);
    return new Keep(c, named, [], kept, NO_SCRATCH);
  }
}

class Keep implements PreparedKeep {
  readonly kept: number;
  readonly #content: Content;
  readonly #masks: ReadonlyMap<number, Masks>;
  readonly #packs: readonly Pack[];
  readonly #scratch: Scratch;
  readonly #version: number;
  #ended = false;

  constructor(
    content: Content,
    masks: ReadonlyMap<number, Masks>,
    packs: readonly Pack[],
    kept: number,
    scratch: Scratch,
  ) {
    this.#content = content;
    this.#masks = masks;
    this.#packs = packs;
    this.#scratch = scratch;
    this.#version = content.version;
    this.kept = kept;
  }

  apply(): void {
    const c = this.#content;
    if (this.#ended)
      throw new KvasirError('invalid_request', 'This plan has been applied or discarded.', { field: 'plan' });
    if (c.version !== this.#version || c.freed) {
      this.discard();
      throw new KvasirError('invalid_request', 'The sequence has changed since the plan was prepared.', {
        field: 'plan',
      });
    }
    this.#ended = true;
    let spares = 0;
    for (const pack of this.#packs) spares += pack.spares.length * PageTable.cost(pack.group);
    notePeak(c, spares);
    if (c.undo) noteMoves(c.undo, this.#packs);
    runMoves(c, this.#packs, this.#scratch);
    freeScratch(c, this.#scratch);
    const views = new Set(this.#masks.keys());
    for (const { group } of this.#packs) for (const view of group.views) views.add(view);
    // Pages of the result get their positions only now: the moves are done, the lists not yet rewritten.
    for (const pack of this.#packs)
      for (const [n, page] of pack.pages.entries()) c.storage.pages.setPositions(page, pack.blocks[n]!);
    for (const view of views) rewrite(c, view, this.#masks.get(view), this.#packs);
    c.changed();
    renewPromise(c);
  }

  discard(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const pack of this.#packs) discardPack(this.#content, pack);
    freeScratch(this.#content, this.#scratch);
  }
}

const ref = new Ref();
const list = new RefList();

/** Pages that rows are moved into. Spare ones were no part of the sequence. */
function noteMoves(undo: Undo, packs: readonly Pack[]): void {
  for (const { pages, spares } of packs) {
    for (const page of pages) {
      undo.positions(page);
      if (!spares.includes(page)) undo.page(page);
    }
  }
}

/** A view's new list: masked records, and the packed pages in place of the records that were packed. */
function rewrite(c: Content, view: number, masks: Masks | undefined, packs: readonly Pack[]): void {
  const { memory, pages, blocks } = c.storage;
  const own = packs.filter(pack => pack.group.index === c.spans.groupOfView[view]);
  list.clear();
  let next = 0;
  for (let i = 0; i < c.refs[view]!; i++) {
    ref.load(memory, c.ref(view, i));
    const pack = own[next];
    if (pack && i >= pack.first) {
      if (i === pack.first) {
        for (const [n, page] of pack.pages.entries()) {
          const block = pages.positions[page]!;
          const rows = pack.rows[n]!;
          const cell = pages.address[page]! + c.spans.cellOffset[view]!;
          const address = blocks.address[block]!;
          const contiguous = blocks.contiguous[block]!;
          list.push(cell, address, contiguous, ref.layout, ref.shift, page, rangeLo(0, rows), rangeHi(0, rows));
        }
      }
      if (i === pack.end - 1) next++;
      continue;
    }
    const contiguous = blocks.contiguous[pages.positions[ref.page]!]!;
    const lo = masks ? masks.lo[i]! : ref.lo;
    const hi = masks ? masks.hi[i]! : ref.hi;
    list.push(ref.cell, ref.positions, contiguous, ref.layout, ref.shift, ref.page, lo, hi);
  }
  c.replace(view, list);
}

interface Scratch {
  readonly address: number;
  readonly bytes: number;
  readonly pairs: number;
}

const NO_SCRATCH: Scratch = { address: 0, bytes: 0, pairs: 0 };

/** Work space for the COPY records and row pairs of the largest wave. */
function allocateMoves(c: Content, packs: readonly Pack[]): Scratch {
  let records = 0;
  let pairs = 0;
  for (let wave = 0; ; wave++) {
    let items = 0;
    let bytes = 0;
    for (const pack of packs) {
      for (const move of pack.waves[wave] ?? []) {
        items += pack.group.views.length;
        bytes += move.pairs.length;
      }
    }
    if (items === 0) break;
    records = Math.max(records, items);
    pairs = Math.max(pairs, bytes);
  }
  const bytes = records * COPY_BYTES + pairs;
  return { address: bytes > 0 ? c.storage.memory.alloc(bytes) : 0, bytes, pairs: records * COPY_BYTES };
}

function runMoves(c: Content, packs: readonly Pack[], scratch: Scratch): void {
  if (scratch.bytes === 0) return;
  const { memory, kernels, pages, layouts } = c.storage;
  const { u32, u8 } = memory;
  for (let wave = 0; ; wave++) {
    let count = 0;
    let pairs = scratch.address + scratch.pairs;
    for (const { group, waves } of packs) {
      for (const move of waves[wave] ?? []) {
        u8.set(move.pairs, pairs);
        for (const view of group.views) {
          const at = (scratch.address + count++ * COPY_BYTES) >>> 2;
          u32[at + COPY_FROM / 4] = pages.address[move.from]! + c.spans.cellOffset[view]!;
          u32[at + COPY_TO / 4] = pages.address[move.to]! + c.spans.cellOffset[view]!;
          u32[at + COPY_LAYOUT / 4] = pages.layout[move.from]!;
          u32[at + COPY_PAIRS / 4] = pairs;
          u32[at + COPY_COUNT / 4] = move.pairs.length / 2;
          u32[at + COPY_LAYOUTS / 4] = layouts.address;
        }
        pairs += move.pairs.length;
      }
    }
    if (count === 0) break;
    kernels.run(KIND_COPY, scratch.address, count);
    for (const { group, waves } of packs) for (const move of waves[wave] ?? []) moveColumns(c, group.views, move);
  }
}

function freeScratch(c: Content, scratch: Scratch): void {
  if (scratch.bytes > 0) c.storage.memory.free(scratch.address, scratch.bytes);
}

/** Moves the values of all columns: the kernels know none but the bias. */
function moveColumns(c: Content, views: Uint32Array, { from, to, pairs }: Move): void {
  const { pages, layouts, memory } = c.storage;
  const { columns } = layouts.get(pages.layout[from]!);
  if (columns.size === 0) return;
  const { f32 } = memory;
  for (const view of views) {
    for (const column of columns.values()) {
      const offset = c.spans.cellOffset[view]! + column;
      const source = (pages.address[from]! + offset) >>> 2;
      const target = (pages.address[to]! + offset) >>> 2;
      for (let i = 0; i < pairs.length; i += 2) f32[target + pairs[i + 1]!] = f32[source + pairs[i]!]!;
    }
  }
}
