import { PAGE_TOKENS } from '../../kernels/abi.ts';
import { countBits, hasRow } from './bits.ts';
import type { Content } from './content.ts';
import type { Masks } from './keep-plan.ts';
import { PositionTable } from './positions.ts';
import { Ref } from './ref-list.ts';
import type { Group } from './spans.ts';

/** Rows that go from one page to another in one wave. */
export interface Move {
  readonly from: number;
  readonly to: number;
  /** u8 pairs (from row, to row) */
  readonly pairs: readonly number[];
}

/** Records [first, end) of a group's views, whose live rows move together into fewer pages. */
export interface Pack {
  readonly group: Group;
  readonly first: number;
  readonly end: number;
  /** Pages of the result, in order, with how many rows and which positions block (a reference is held) each gets. */
  readonly pages: number[];
  readonly rows: number[];
  readonly blocks: number[];
  /** Pages among them that are new. */
  readonly spares: number[];
  /** Moves in order: those of one wave may run side by side, a wave needs the one before it. */
  readonly waves: Move[][];
}

const ref = new Ref();

/**
 * Finds the stretches of a group's references that packing shortens: adjacent pages that nobody else refers to, of the
 * group's layout and of one shift, the same for all views of the group. The rows of a joint page can only move together:
 * where the views of a group differ, their pages keep their holes.
 *
 * Rows move to the spare page first and then to pages that the earlier waves have emptied, so packing needs one page more
 * than it has, and no wave writes a page that it reads. Where even that page does not fit, the stretch keeps its holes.
 */
export function planPacks(c: Content, group: Group, masks: readonly Masks[], threshold: number): Pack[] {
  if (threshold <= 0 || !sameViews(c, group, masks)) return [];
  const packs: Pack[] = [];
  const view = group.views[0]!;
  const { lo, hi } = masks[0]!;
  let first = -1;
  let key = '';
  for (let i = 0; i <= c.refs[view]!; i++) {
    let now = '';
    if (i < c.refs[view]! && isPackable(c, group, c.pageAt(view, i))) {
      ref.load(c.storage.memory, c.ref(view, i));
      now = `${ref.shift}`;
    }
    if (now !== key) {
      if (key !== '') planStretch(c, group, masks[0]!, first, i, threshold, packs);
      first = i;
      key = now;
    }
    // Full pages at the start of a stretch stay where they are.
    if (first === i && key !== '' && countBits(lo[i]!) + countBits(hi[i]!) === PAGE_TOKENS) key = '';
  }
  return packs;
}

export function discardPack(c: Content, pack: Pack): void {
  for (const block of pack.blocks) c.storage.blocks.release(block);
  for (const page of pack.spares) c.storage.pages.destroy(page);
}

function sameViews(c: Content, group: Group, masks: readonly Masks[]): boolean {
  const view0 = group.views[0]!;
  const other = new Ref();
  for (let n = 1; n < group.views.length; n++) {
    const view = group.views[n]!;
    if (c.refs[view] !== c.refs[view0]) return false;
    for (let i = 0; i < c.refs[view]!; i++) {
      ref.load(c.storage.memory, c.ref(view0, i));
      other.load(c.storage.memory, c.ref(view, i));
      if (ref.page !== other.page || ref.shift !== other.shift) return false;
      if (masks[0]!.lo[i] !== masks[n]!.lo[i] || masks[0]!.hi[i] !== masks[n]!.hi[i]) return false;
    }
  }
  return true;
}

/**
 * May rows of the page be moved? It must be of the group's own layout (rows of encoded pages never move), hold no copies of
 * parked rows, and have no references but one of each of the group's views.
 */
export function isPackable(c: Content, group: Group, page: number): boolean {
  const { pages } = c.storage;
  const own = pages.layout[page] === group.layout.id && !pages.fetched.has(page);
  return own && pages.refs[page] === group.views.length;
}

function planStretch(
  c: Content,
  group: Group,
  { view, lo, hi }: Masks,
  first: number,
  end: number,
  threshold: number,
  packs: Pack[],
): void {
  const sources = end - first;
  let live = 0;
  for (let i = first; i < end; i++) live += countBits(lo[i]!) + countBits(hi[i]!);
  if (sources < 2 || live > threshold * sources * PAGE_TOKENS || Math.ceil(live / PAGE_TOKENS) >= sources) return;

  const pack: Pack = { group, first, end, pages: [], rows: [], blocks: [], spares: [], waves: [] };
  // A page without live rows is emptied from the start; it goes with the masks if nothing moves into it.
  const emptied: number[] = [];
  let positions: number[] = [];
  try {
    for (let i = first; i < end; i++) {
      if (lo[i] === 0 && hi[i] === 0) emptied.push(c.pageAt(view, i));
    }
    for (let i = first; i < end; i++) {
      const from = c.pageAt(view, i);
      ref.load(c.storage.memory, c.ref(view, i));
      let pairs: number[] | null = null;
      for (let row = ref.first; row < ref.end; row++) {
        if (!hasRow(lo[i]!, hi[i]!, row)) continue;
        const position = c.storedPosition(ref, row);
        const full = positions.length === PAGE_TOKENS;
        if (positions.length === 0 || full || !PositionTable.fits(positions[0]!, position)) {
          endPage(c, pack, positions);
          if (pack.pages.length === sources - 1) throw NO_GAIN;
          positions = [];
          startPage(c, pack, emptied, position);
          pairs = null;
        }
        if (!pairs) {
          pairs = [];
          pack.waves.at(-1)!.push({ from, to: pack.pages.at(-1)!, pairs });
        }
        pairs.push(row, positions.length);
        positions.push(position);
      }
      // The next wave may write it: its last rows leave in this one.
      if (pairs) emptied.push(from);
    }
    endPage(c, pack, positions);
  } catch {
    // No room for the spare page or a positions block, or nothing gained: the holes stay.
    discardPack(c, pack);
    return;
  }
  packs.push(pack);
}

const NO_GAIN = new Error('packing frees no page');

function startPage(c: Content, pack: Pack, emptied: number[], position: number): void {
  let page = emptied.shift();
  if (page === undefined) {
    const { pages, blocks } = c.storage;
    page = pages.create(pack.group, blocks.internRun(position, c.account), c.account, true);
    pack.spares.push(page);
  }
  pack.pages.push(page);
  pack.waves.push([]);
}

function endPage(c: Content, pack: Pack, positions: readonly number[]): void {
  if (positions.length === 0) return;
  pack.rows.push(positions.length);
  pack.blocks.push(c.storage.blocks.intern(positions, 0, positions.length, c.account));
}
