import { expect, test } from 'vitest';
import { merge } from './merge.ts';

async function* count(name: string, to: number, left: string[], fail = false): AsyncGenerator<string> {
  try {
    for (let i = 0; i < to; i++) yield `${name}${i}`;
    if (fail) throw new Error(`${name} broke`);
  } finally {
    left.push(name);
  }
}

test('every item once, each source in order, none starved', async () => {
  const seen: string[] = [];
  for await (const item of merge([count('a', 50, []), count('b', 50, []), count('c', 0, [])])) seen.push(item);
  for (const name of ['a', 'b']) {
    expect(seen.filter(item => item.startsWith(name))).toEqual(Array.from({ length: 50 }, (_, i) => `${name}${i}`));
  }
  expect(seen.indexOf('b0')).toBeLessThan(seen.indexOf('a5'));
  expect(seen.indexOf('a40')).toBeLessThan(seen.indexOf('b49'));
});

test('leaving the loop leaves every source', async () => {
  const left: string[] = [];
  for await (const _ of merge([count('a', 9, left), count('b', 9, left)])) break;
  await new Promise(resolve => setTimeout(resolve));
  expect(left.sort()).toEqual(['a', 'b']);
});

test('the error of one source ends all', async () => {
  const left: string[] = [];
  const read = async () => {
    for await (const _ of merge([count('a', 1000, left), count('b', 2, left, true)]));
  };
  await expect(read()).rejects.toThrow('b broke');
  await new Promise(resolve => setTimeout(resolve));
  expect(left.sort()).toEqual(['a', 'b']);
});
