import { expect, test } from 'vitest';
import { passkey, SUGGESTIONS } from './prompts.ts';

test('a pass key stands in its text twice, whole, wherever it is put', () => {
  for (const random of [() => 0, () => 0.5, () => 0.999999]) {
    const { text, note } = passkey(1000, random);
    const key = /\d+/.exec(note)![0];
    expect(key).toMatch(/^\d{5,6}$/);
    expect(text.split(key)).toHaveLength(3);
    expect(text).toContain(` The pass key is ${key}. Remember it. ${key} is the pass key.`);
    expect(text).toMatch(/^There is important information hidden/);
    expect(text).toMatch(/What is the pass key\?$/);
  }
});

test('its length follows the wish', () => {
  const ratio = passkey(6000).text.length / passkey(1000).text.length;
  expect(ratio).toBeGreaterThan(5);
  expect(ratio).toBeLessThan(7.5);
});

test('titles differ', () => {
  expect(new Set(SUGGESTIONS.map(suggestion => suggestion.title)).size).toBe(SUGGESTIONS.length);
});
