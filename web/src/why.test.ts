import { expect, test } from 'vitest';
import { KvasirError } from '../../src/errors.ts';
import { Refused } from './client.ts';
import { why } from './why.ts';

test('an error of the engine and one of the server say the same', () => {
  const message = 'snapkv: keep must be a number above 0 and at most 1';
  const engine = new KvasirError('invalid_recipe', message, { field: 'recipes[1]', value: 2 });
  expect(why(engine)).toBe(`Recipe 2: ${message}; got 2`);
  expect(why(new Refused(`${message}; got 2`, 'recipes[1]'))).toBe(why(engine));
});

test('what concerns no recipe is told as it is', () => {
  expect(why(new Refused('The body is too large.', null))).toBe('The body is too large.');
  expect(why(new KvasirError('queue_full', 'too many requests wait'))).toBe('too many requests wait');
  expect(why(new Error('Failed to fetch'))).toBe('Failed to fetch');
  expect(why('gone')).toBe('gone');
});
