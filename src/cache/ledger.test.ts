import { expect, test } from 'vitest';
import { CacheBudget, KvCacheFullError } from './budget.ts';
import { Account, Ledger } from './ledger.ts';

test('what one account is promised, others cannot take', () => {
  const budget = new CacheBudget(100);
  const ledger = new Ledger(budget, 1);
  const a = new Account(ledger, 'a', 10);
  const b = new Account(ledger, 'b', 10);
  a.setPromise(50);
  expect(budget.free).toBe(30);
  try {
    b.charge(31, 'rows', 7, true);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(KvCacheFullError);
    expect(error).toMatchObject({ code: 'kv_cache_full', field: 'rows', value: 7, needed: 31, free: 30 });
  }
  a.charge(60, 'rows', 1, true);
  expect([budget.held, budget.reserved, a.promised]).toEqual([80, 0, 0]);
  a.refund(70);
  b.refund(10);
  expect([budget.held, budget.peak, ledger.held, ledger.peak]).toEqual([0, 80, 0, 80]);
  expect(ledger.byOwner()).toEqual({});
});

test('caches share a budget and keep accounts of their own', () => {
  const budget = new CacheBudget(100);
  const one = new Ledger(budget, 1);
  const two = new Ledger(budget, 1);
  one.open('x', 60);
  expect(() => two.open('x', 41)).toThrow(KvCacheFullError);
  two.open('x', 40);
  expect([one.held, two.held, budget.held]).toEqual([60, 40, 100]);
});

test('owners come and go without leaving names behind', () => {
  const ledger = new Ledger(new CacheBudget(100), 1);
  const ids = new Set<number>();
  for (let i = 0; i < 1000; i++) {
    const id = ledger.open(`tenant-${i}`, 5);
    ids.add(id);
    expect(ledger.byOwner()).toEqual({ [`tenant-${i}`]: 5 });
    ledger.give(id, 5);
  }
  expect(ids.size).toBe(1);
});

test.each([-1, Number.NaN, Number.POSITIVE_INFINITY])('refuses a limit of %d', limit => {
  expect(() => new CacheBudget(limit)).toThrow(expect.objectContaining({ code: 'invalid_request', field: 'limit' }));
});
