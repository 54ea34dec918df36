import { describe, expect, test } from 'vitest';
import { describeMethod, stepSchema } from './describe.ts';
import { findMethod, METHODS } from './index.ts';
import { parseRecipe } from './recipe.ts';
import { STAGES } from './rules.ts';
import type { Method } from './types.ts';

const methods: readonly Method[] = METHODS;

test('names are unique, lower case, and found', () => {
  expect(new Set(methods.map(method => method.name)).size).toBe(methods.length);
  expect(methods[0]!.name).toBe('full');
  for (const method of methods) {
    expect(method.name).toMatch(/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/);
    expect(findMethod(method.name)).toBe(method);
  }
  expect(findMethod('toString')).toBeUndefined();
});

describe.each(methods.map(method => [method.name, method] as const))('%s', (name, method) => {
  test('its name alone is a recipe', () => {
    expect(parseRecipe(name).map(step => step.method)).toEqual(name === 'full' ? [] : [name]);
  });

  test('says what it is', () => {
    expect(method.summary).toMatch(/^[A-Z].+\. .+\.$/s);
    expect(STAGES).toContain(method.traits.stage);
    if (method.paper) {
      expect(method.paper).toMatchObject({
        date: expect.stringMatching(/^\d{4}-\d{2}$/),
        arxiv: expect.stringMatching(/^\d{4}\.\d{5}$/),
      });
      expect(method.claim).not.toBe('');
    } else expect(method.claim).toBe('');
  });

  test('its options are flat, described, and never called method', () => {
    const { options } = describeMethod(method);
    for (const option of options) {
      expect(option.name).toMatch(/^[a-z][A-Za-z0-9]*$/);
      expect(option.name).not.toBe('method');
      expect(option.description, option.name).not.toBe('');
      expect(['number', 'integer', 'boolean', 'string', 'list']).toContain(option.type);
    }
    expect(stepSchema(method)).toMatchObject({
      type: 'object',
      required: ['method'],
      additionalProperties: false,
      properties: { method: { const: name }, ...Object.fromEntries(options.map(option => [option.name, {}])) },
    });
  });

  test('what it goes together with is accepted, what not is refused', () => {
    const { worksWith, worksAs, notWith } = describeMethod(method);
    const inOrder = (other: string) => {
      const stage = (of: string) => STAGES.indexOf(findMethod(of)!.traits.stage);
      return stage(name) <= stage(other) ? `${name} + ${other}` : `${other} + ${name}`;
    };
    for (const other of worksWith) expect(parseRecipe(inOrder(other))).toHaveLength(2);
    for (const recipe of worksAs) expect(parseRecipe(recipe)).toHaveLength(2);
    for (const other of notWith)
      expect(() => parseRecipe(inOrder(other))).toThrowError(expect.objectContaining({ code: 'invalid_recipe' }));
    expect(worksWith.length + worksAs.length + notWith.length).toBe(methods.length - 1);
  });
});

test('going together is mutual', () => {
  const all = new Map(methods.map(method => [method.name, describeMethod(method)]));
  for (const [name, { worksWith }] of all)
    for (const other of worksWith) expect(all.get(other)!.worksWith).toContain(name);
});
