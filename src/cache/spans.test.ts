import { expect, test } from 'vitest';
import { CacheBudget } from './budget.ts';
import { LayoutTable } from './layout.ts';
import { Account, Ledger } from './ledger.ts';
import { buildSpans } from './spans.ts';
import { PlainMemory } from './testing.ts';
import type { PageOptions } from './types.ts';

const shape = { slots: 5, kvHeads: 3, headDim: 8, rotary: 8 };
const pages: PageOptions = { formatK: 'f32', formatV: 'f32' };

function build(options: { pages: PageOptions; overrides?: ReadonlyMap<number, PageOptions> }) {
  const account = new Account(new Ledger(new CacheBudget(1 << 20), shape.slots), 'cache', LayoutTable.bytes);
  return buildSpans(shape, { owner: 'o', ...options }, new LayoutTable(new PlainMemory(1 << 20), shape, account));
}

test.each([
  [1, 1],
  [2, 1],
  [1, 2],
  [5, 3],
  [3, 2],
])('spans of %i slots x %i heads cover every view once', (slots, kvHeads) => {
  const spans = build({ pages: { ...pages, span: { slots, kvHeads } } });
  const seen = new Set<number>();
  for (const group of spans.groups) {
    expect(group.views.length).toBe(group.slots * group.heads);
    expect(group.pageBytes).toBe(group.views.length * group.layout.cellBytes);
    for (const [cell, view] of group.views.entries()) {
      expect(seen.has(view)).toBe(false);
      seen.add(view);
      expect(spans.groups[spans.groupOfView[view]!]).toBe(group);
      expect(spans.cellOffset[view]).toBe(cell * group.layout.cellBytes);
    }
  }
  expect(seen.size).toBe(15);
  const borders = [...spans.isBorder.keys()].filter(slot => spans.isBorder[slot]);
  expect(borders).toEqual([0, 1, 2, 3, 4, 5].filter(slot => slot % slots === 0 || slot === 5));
  for (const slot of borders) {
    expect(spans.groups.slice(spans.firstGroup[slot]).every(group => group.slot >= slot)).toBe(true);
  }
});

test('slots may have other formats', () => {
  const spans = build({ pages, overrides: new Map([[2, { formatK: 'int8', formatV: 'f16' }]]) });
  expect(spans.groups.map(group => group.layout.formatK).filter((_, i) => i % 3 === 0)).toEqual([
    'f32',
    'f32',
    'int8',
    'f32',
    'f32',
  ]);
});

test.each([
  [{ pages: { ...pages, span: { slots: 6, kvHeads: 1 } } }, 'pages.span.slots'],
  [{ pages: { ...pages, span: { slots: 1, kvHeads: 0 } } }, 'pages.span.kvHeads'],
  [{ pages, overrides: new Map([[5, pages]]) }, 'overrides'],
  [
    {
      pages: { ...pages, span: { slots: 2, kvHeads: 1 } },
      overrides: new Map([[1, { formatK: 'int8', formatV: 'f32' } as PageOptions]]),
    },
    'overrides',
  ],
])('refuses %o', (options, field) => {
  expect(() => build(options)).toThrow(expect.objectContaining({ code: 'invalid_request', field }));
});
