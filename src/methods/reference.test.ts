import { readdir, readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { METHODS } from './index.ts';
import { parseMeasured } from './measured.ts';
import { methodPage, methodsIndex } from './method-pages.ts';
import { recipeReference } from './reference.ts';

const read = (path: string) => readFile(new URL(`../../${path}`, import.meta.url), 'utf8');

test('docs/recipes.md is what the registry says of itself (node scripts/recipe-docs.ts)', async () => {
  expect(await read('docs/recipes.md')).toBe(recipeReference());
});

test('docs/methods/ is what the registry and the measurements say (node scripts/recipe-docs.ts)', async () => {
  const measured = parseMeasured(await read('models/kvasir-mini.measured.json'));
  expect(await read('docs/methods/README.md')).toBe(methodsIndex(measured));
  for (const method of METHODS) expect(await read(`docs/methods/${method.name}.md`)).toBe(methodPage(method, measured));
  const names = await readdir(new URL('../../docs/methods', import.meta.url));
  expect(names.sort()).toEqual(['README.md', ...METHODS.map(({ name }) => `${name}.md`)].sort());
});
