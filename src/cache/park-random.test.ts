import { describe, expect, test } from 'vitest';
import { KvCache } from './cache.ts';
import type { CacheSequence } from './sequence.ts';
import { PlainMemory } from './testing.ts';
import { BACKENDS, openBackend } from './testing-backends.ts';
import { checkInvariants } from './testing-invariants.ts';
import { appendRows, compare, type Entry, type Model, numbers, positionOf } from './testing-model.ts';
import type { CacheShape } from './types.ts';

const shape: CacheShape = { slots: 1, kvHeads: 2, headDim: 8, rotary: 8 };

/** One view: what is parked, which of it is resident, and what never left. Positions tell its entries apart. */
interface View {
  units: Entry[][];
  resident: Entry[];
  rest: Entry[];
}

interface Living {
  readonly sequence: CacheSequence;
  readonly views: View[];
}

describe.each(BACKENDS)('parked entries under random verbs on %s kernels', backend => {
  test.each([1, 2, 3])('seed %i', async seed => {
    const { memory, kernels } = await openBackend(backend);
    const base = memory.held;
    const cache = new KvCache({ memory, kernels, shape, limit: 64 << 20 });
    const random = numbers(seed);
    const below = (n: number) => Math.floor(((random() + 1) / 2) * n);
    const pages = { formatK: 'f16', formatV: 'int8', columns: ['bias'] } as const;
    const first = cache.create({ owner: 'me', pages });
    const living: Living[] = [{ sequence: first, views: [0, 1].map(() => ({ units: [], resident: [], rest: [] })) }];
    const counts: Record<string, number> = {};

    /** The views in the order that the cache has them in. */
    const modelOf = ({ sequence, views }: Living): Model =>
      views.map(({ resident, rest }, head) => {
        const byPosition = new Map(resident.map(entry => [positionOf(entry), entry]));
        const fetched = sequence.positions(0, head).subarray(0, resident.length);
        return [...[...fetched].map(position => byPosition.get(position)!), ...rest];
      });
    const check = (one: Living) => {
      const model = modelOf(one);
      for (const [head, { resident }] of one.views.entries()) {
        expect(new Set(model[head]!.slice(0, resident.length)).size).toBe(resident.length);
        expect(one.sequence.fetchedEntries(0, head)).toBe(resident.length);
        expect([...one.sequence.units(0, head).lengths]).toEqual(one.views[head]!.units.map(unit => unit.length));
      }
      compare(cache, one.sequence, model);
    };
    const remove = (view: View, gone: ReadonlySet<Entry>) => {
      view.resident = view.resident.filter(entry => !gone.has(entry));
      view.rest = view.rest.filter(entry => !gone.has(entry));
    };

    for (let n = 0; n < 250; n++) {
      const one = living[below(living.length)]!;
      const { sequence, views } = one;
      const head = below(2);
      const view = views[head]!;
      const entries = modelOf(one)[head]!;
      const verb = [
        'append',
        'append',
        'drop',
        'drop',
        'keep',
        'truncate',
        'park',
        'fetch',
        'fetch',
        'fetch',
        'fork',
        'free',
      ][below(12)]!;
      counts[verb] = (counts[verb] ?? 0) + 1;
      if (verb === 'append') {
        const model: Model = [[], []];
        appendRows(cache, sequence, model, random() > 0.5 ? 1 + below(90) : 1, random);
        for (const [h, added] of model.entries()) views[h]!.rest.push(...added);
      } else if (verb === 'drop' && entries.length > 0) {
        const entry = below(entries.length);
        sequence.drop(0, head, entry);
        remove(view, new Set([entries[entry]!]));
      } else if (verb === 'keep') {
        const stays = entries.map(() => random() > -0.7);
        sequence.keep(0, head, Uint32Array.from(stays.flatMap((stay, i) => (stay ? [i, i + 1] : []))));
        remove(view, new Set(entries.filter((_, i) => !stays[i])));
      } else if (verb === 'truncate' && random() > 0) {
        const position = Math.max(0, sequence.position - below(120));
        sequence.truncate(position);
        const before = (entry: Entry) => positionOf(entry) < position;
        for (const v of views) {
          v.units = v.units.map(unit => unit.filter(before)).filter(unit => unit.length > 0);
          v.resident = v.resident.filter(before);
          v.rest = v.rest.filter(before);
        }
      } else if (verb === 'park') {
        const fetched = view.resident.length;
        const units = Array.from({ length: 1 + below(6) }, (): number[] => []);
        for (let entry = fetched; entry < entries.length; entry++) units[below(units.length + 2)]?.push(entry);
        const full = units.filter(unit => unit.length > 0);
        const plan = sequence.preparePark([
          { slot: 0, head, units: full.map(unit => Uint32Array.from(unit)), place: 'memory' },
        ]);
        if (random() > 0.7) {
          plan.discard();
        } else {
          plan.apply();
          view.units = [...view.units, ...full.map(unit => unit.map(entry => entries[entry]!))];
          const gone = new Set(full.flat().map(entry => entries[entry]!));
          view.rest = view.rest.filter(entry => !gone.has(entry));
        }
      } else if (verb === 'fetch') {
        const ids = [...view.units.keys()].filter(() => random() > 0.2).sort(() => random());
        const here = new Set(view.resident);
        const fresh = ids.filter(id => view.units[id]!.some(entry => !here.has(entry)));
        const rows = fresh.reduce((sum, id) => sum + view.units[id]!.length, 0);
        expect(sequence.fetch(0, head, Uint32Array.from(ids))).toBe(rows);
        view.resident = ids.flatMap(id => view.units[id]!);
      } else if (verb === 'fork' && living.length < 4) {
        const copies = views.map(({ units, resident, rest }) => ({ units, resident, rest: [...rest] }));
        living.push({ sequence: sequence.fork(), views: copies });
      } else if (verb === 'free' && living.length > 1) {
        sequence.free();
        living.splice(living.indexOf(one), 1);
      }
      for (const other of living) check(other);
      const bytes = checkInvariants(
        cache,
        living.map(({ sequence }) => sequence),
      );
      if (memory instanceof PlainMemory) expect(memory.held - base).toBe(bytes);
    }
    for (const verb of ['park', 'fetch', 'drop', 'keep', 'fork']) expect(counts[verb]).toBeGreaterThan(2);
    for (const { sequence } of living) sequence.free();
    expect(cache.stats()).toMatchObject({ parked: 0, pages: 0 });
    cache.dispose();
    expect(memory.held).toBe(base);
    await kernels.dispose();
  });
});
