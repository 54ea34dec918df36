import { KvasirError } from '../errors.ts';
import type { CellLayout, LayoutTable } from './layout.ts';
import type { CacheShape, PageOptions, SequenceOptions } from './types.ts';

/** The (slot, KV head) cells that share pages: a tile of slots x heads, 1 x 1 unless a span asks for more. */
export interface Group {
  readonly index: number;
  readonly layout: CellLayout;
  readonly slot: number;
  readonly slots: number;
  readonly head: number;
  readonly heads: number;
  /** View numbers (slot * kvHeads + head), in the order of their cells in the page. */
  readonly views: Uint32Array;
  readonly pageBytes: number;
}

/** How a sequence's views are grouped into pages; sequences with equal options share one. */
export interface Spans {
  /** By slot, then by head. */
  readonly groups: readonly Group[];
  readonly groupOfView: Uint32Array;
  /** Offset of a view's cell in its page. */
  readonly cellOffset: Uint32Array;
  /** Groups whose slots begin at or after slot s start at firstGroup[s]; only meaningful where a group begins at s. [slots + 1] */
  readonly firstGroup: Uint32Array;
  /** 1 where a group begins at slot s. [slots + 1] */
  readonly isBorder: Uint8Array;
}

/** Groups at the right and lower edge are smaller where the span does not divide the shape. */
export function buildSpans(shape: CacheShape, options: SequenceOptions, layouts: LayoutTable): Spans {
  const { slots, kvHeads } = shape;
  const groups: Group[] = [];
  const groupOfView = new Uint32Array(slots * kvHeads);
  const cellOffset = new Uint32Array(slots * kvHeads);
  const firstGroup = new Uint32Array(slots + 1);
  const isBorder = new Uint8Array(slots + 1);
  const pagesOf = (slot: number): PageOptions => options.overrides?.get(slot) ?? options.pages;
  checkOverrides(shape, options);

  let slot = 0;
  while (slot < slots) {
    const pages = pagesOf(slot);
    const span = checkSpan(pages, shape);
    const layout = layouts.intern(pages);
    const tall = Math.min(span.slots, slots - slot);
    for (let s = slot + 1; s < slot + tall; s++) {
      if (JSON.stringify(pagesOf(s)) !== JSON.stringify(pages)) {
        throw new KvasirError(
          'invalid_request',
          `A page that spans slots ${slot}..${slot + tall - 1} needs equal options in all of them.`,
          {
            field: 'overrides',
            value: s,
            allowed: 'equal page options in all slots of a span',
          },
        );
      }
    }
    isBorder[slot] = 1;
    firstGroup[slot] = groups.length;
    for (let head = 0; head < kvHeads; head += span.kvHeads) {
      const wide = Math.min(span.kvHeads, kvHeads - head);
      const views = new Uint32Array(tall * wide);
      for (let cell = 0; cell < views.length; cell++) {
        const view = (slot + Math.floor(cell / wide)) * kvHeads + head + (cell % wide);
        views[cell] = view;
        groupOfView[view] = groups.length;
        cellOffset[view] = cell * layout.cellBytes;
      }
      const pageBytes = views.length * layout.cellBytes;
      groups.push({ index: groups.length, layout, slot, slots: tall, head, heads: wide, views, pageBytes });
    }
    slot += tall;
    firstGroup.fill(groups.length, slot);
  }
  isBorder[slots] = 1;
  return { groups, groupOfView, cellOffset, firstGroup, isBorder };
}

function checkSpan(pages: PageOptions, shape: CacheShape): { slots: number; kvHeads: number } {
  const span = pages.span ?? { slots: 1, kvHeads: 1 };
  for (const field of ['slots', 'kvHeads'] as const) {
    const value = span[field];
    if (!Number.isInteger(value) || value < 1 || value > shape[field]) {
      throw new KvasirError('invalid_request', `A page cannot span ${String(value)} ${field}.`, {
        field: `pages.span.${field}`,
        value,
        allowed: `an integer from 1 to ${shape[field]}`,
      });
    }
  }
  return span;
}

function checkOverrides(shape: CacheShape, options: SequenceOptions): void {
  for (const slot of options.overrides?.keys() ?? []) {
    if (Number.isInteger(slot) && slot >= 0 && slot < shape.slots) continue;
    throw new KvasirError('invalid_request', `There is no cache slot ${slot}.`, {
      field: 'overrides',
      value: slot,
      allowed: `slots 0 to ${shape.slots - 1}`,
    });
  }
}
