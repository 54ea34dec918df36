import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { recipeReference } from './reference.ts';

test('docs/recipes.md is what the registry says of itself (node scripts/recipe-docs.ts)', async () => {
  expect(await readFile(new URL('../../docs/recipes.md', import.meta.url), 'utf8')).toBe(recipeReference());
});
