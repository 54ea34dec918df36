import { expect } from 'vitest';
import { POSITIONS_BYTES, REF_BYTES } from '../../kernels/abi.ts';
import type { KvCache } from '../../src/cache/cache.ts';
import { PAGE_ENTRY_BYTES } from '../../src/cache/pages.ts';
import { POSITIONS_HELD } from '../../src/cache/positions.ts';
import { SHARED_ENTRY_BYTES } from '../../src/cache/shared-blocks.ts';
import type { SequenceStats } from '../../src/cache/types.ts';
import { parseRecipe } from '../../src/methods/recipe.ts';
import type { Method } from '../../src/methods/types.ts';
import type { Written } from '../recipes.ts';
import { Bill, CARD_BYTES } from './card-bytes.ts';
import { eachView } from './matrix-checks.ts';

/**
 * Pages that a view may have beyond those that its entries fill: drops of single entries leave holes until there are two too many
 * and the view's turn comes (cache/drop-pack.ts); where dropping would free no page, the holes stay; so it is with fetched rows.
 */
const HOLES: Readonly<Record<string, number>> = { kvmerger: 1, louiskv: 1, leoam: 1, actqkv: 1 };
const DROPS = 3;

/** What has happened to the sequence, and its bytes when it was empty. */
export interface Past {
  readonly turns: readonly { readonly prompt: number; readonly end: number }[];
  readonly empty: SequenceStats;
}

/**
 * Bytes by item: keys, values, parameters and columns as the method's card has them (card-bytes.ts), blocks of 64 positions that
 * views share, lists of references, and the tables' rows for that many pages; beside them the method's own state. Their sum is
 * what is held.
 */
export function checkBytes(written: Written, method: Method, kv: string, { turns, empty }: Past): void {
  const formula = CARD_BYTES[method.name];
  if (!formula) throw new Error(`${method.name} has no formula of its bytes: add one to test/helpers/card-bytes.ts`);
  const { sequence } = written;
  const { slots: layers, kvHeads, headDim } = written.model.cache.shape;
  const { method: _, ...options } = parseRecipe(kv)[0]!;
  const { bytes, held, parked } = sequence.stats();
  const bill = new Bill();
  formula(
    {
      ...{ layers, kvHeads, headDim, options, turns },
      entries: (layer, head) => sequence.entries(layer, head),
      exact: (layer, head) => sequence.exactRanges(layer, head).reduce((sum, [from, to]) => sum + to - from, 0),
      fetched: (layer, head) => sequence.fetchedEntries(layer, head),
      units: (layer, head) => [...sequence.units(layer, head).lengths],
    },
    bill,
  );
  const pages = (bytes.tables - empty.bytes.tables) / PAGE_ENTRY_BYTES;
  const blocks = bytes.positions / POSITIONS_HELD;
  const decoding = turns.at(-1)!.end > turns.at(-1)!.prompt;
  const holes = method.traits.drops && decoding ? DROPS : (HOLES[method.name] ?? 0);
  const beyond = pages - bill.pages;
  expect(beyond).toBeGreaterThanOrEqual(0);
  expect(beyond).toBeLessThanOrEqual(holes * layers * kvHeads);
  if (beyond > 0) bill.addExact(beyond, headDim, bill.columns / bill.pages / COLUMN_BYTES);
  const { exact, encoded, joint, columns, shared } = bill;
  expect(bytes).toMatchObject({ exact, encoded, joint, columns, shared });
  const stays = method.traits.stage === 'encode' || method.traits.stage === 'join';
  if (stays) expect(blocks).toBe(positionBlocks(written));
  // Where rows went and no page did, pages still have the positions that they share with others.
  else expect(blocks).toBeLessThanOrEqual(pages);
  let [least, most] = [0, 0];
  eachView(written, (layer, head) => {
    const records = sequence.refCount(layer, head);
    least += records * REF_BYTES;
    // A list doubles when it is full, and may have held all of the text and a probe.
    most += upToLines(2 * (Math.ceil(turns.at(-1)!.end / 64) + 1 + holes) * REF_BYTES);
  });
  expect(bytes.references).toBeGreaterThanOrEqual(least);
  expect(bytes.references).toBeLessThanOrEqual(most);
  expect(parked).toBeGreaterThanOrEqual(bill.parked);
  expect(parked).toBeLessThanOrEqual(bill.parked + bill.copies);
  expect(Object.values(bytes).reduce((sum, part) => sum + part, 0)).toBe(held);
}

/** Blocks of positions: one for each list of 64 of them; a page that is not full counts on from its last row. */
function positionBlocks(written: Written): number {
  const lists = new Set<string>();
  eachView(written, (layer, head) => {
    const positions = [...written.sequence.positions(layer, head)];
    while (positions.length % 64 !== 0) positions.push(positions.at(-1)! + 1);
    for (let from = 0; from < positions.length; from += 64) lists.add(positions.slice(from, from + 64).join(' '));
  });
  return lists.size;
}

/**
 * Frees the sequence: what it said it holds is what the cache's accounts and the allocator get back; the rows of tables and the
 * states are not the allocator's, and layouts that go with their last page are not the sequence's.
 */
export function checkFreed({ sequence, model: { cache } }: Written, { empty }: Past): void {
  const { held, bytes } = sequence.stats();
  const { pages, blocks, shared } = cache.storage;
  const before = { ...reading(cache), rows: blocks.count * ROW_OF_BLOCK + shared.count * SHARED_ENTRY_BYTES };
  expect(pages.count).toBe((bytes.tables - empty.bytes.tables) / PAGE_ENTRY_BYTES);
  sequence.free();
  const after = reading(cache);
  const layouts = before.layouts - after.layouts;
  expect(before.accounts - after.accounts - layouts).toBe(held);
  expect(before.memory - after.memory - layouts).toBe(held - bytes.states - bytes.tables - before.rows);
}

const COLUMN_BYTES = 256;
/** What a block of positions takes in tables. */
const ROW_OF_BLOCK = POSITIONS_HELD - upToLines(POSITIONS_BYTES);

function upToLines(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}

function reading(cache: KvCache): { accounts: number; memory: number; layouts: number } {
  const { held, byOwner } = cache.stats();
  return { accounts: held, memory: cache.memory.held, layouts: byOwner.cache! };
}
