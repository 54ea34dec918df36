import { expect, test } from 'vitest';
import { z } from 'zod';
import { METHODS } from '../index.ts';
import { optionsOf } from '../options.ts';
import { keepsAll, tokensKept } from './budget.ts';
import { pooling, withBudget } from './options.ts';

const schema = withBudget({ keep: 0.25 }, { extra: z.int().default(3), ...pooling('max', 7) });

test('what stands where nothing is given shows in the options, and gives way to either', () => {
  expect(schema.parse({})).toMatchObject({ keep: 0.25, extra: 3 });
  expect(schema.parse({ budget: 100 })).not.toHaveProperty('keep');
  expect(schema.parse({ keep: 0.5 })).toMatchObject({ keep: 0.5 });
  expect(withBudget({ budget: 1024 }, {}).parse({ keep: 0.5 })).toEqual({ keep: 0.5 });
});

test.each([
  { keep: 0.5, budget: 10 },
  { keep: 0 },
  { keep: 1.01 },
  { keep: -1 },
  { budget: 0 },
  { budget: 1.5 },
  { width: 4 },
])('%o is refused', given => {
  expect(schema.safeParse(given).success).toBe(false);
});

test('a method tells its default as its schema fills it in', () => {
  for (const method of METHODS) {
    const filled = method.options.parse({}) as Record<string, unknown>;
    for (const { name, default: standard } of optionsOf(method)) {
      // One that follows from another option is told in words.
      if (filled[name] === undefined && typeof standard === 'string') continue;
      expect([name, standard]).toEqual([name, filled[name]]);
    }
  }
});

test('a share is of all tokens seen, rounded down; never less than the window, never nothing', () => {
  expect(tokensKept({ keep: 0.29 }, { seen: 100 })).toBe(29);
  expect(tokensKept({ keep: 0.25 }, { seen: 63 })).toBe(15);
  expect(tokensKept({ keep: 0.25 }, { seen: 63 }, 32)).toBe(32);
  expect(tokensKept({ keep: 0.01 }, { seen: 10 })).toBe(1);
  expect(tokensKept({ budget: 5 }, { seen: 1000 })).toBe(5);
  expect(keepsAll({ keep: 1 })).toBe(true);
  expect(keepsAll({ budget: 1 })).toBe(false);
});
