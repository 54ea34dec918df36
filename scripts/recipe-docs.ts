/**
 * Writes docs/recipes.md and docs/methods/ from the registry of methods, and models/kvasir-mini.measured.json from
 * bench/results/recipes.json.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { measuredOf } from '../bench/lib/measured.ts';
import type { Cells } from '../bench/lib/recipe-cells.ts';
import { recipeSettings } from '../bench/lib/recipe-settings.ts';
import { METHODS } from '../src/methods/index.ts';
import { methodPage, methodsIndex } from '../src/methods/method-pages.ts';
import { recipeReference } from '../src/methods/reference.ts';
import { ROOT } from './steps.ts';

const { results } = JSON.parse(await readFile(join(ROOT, 'bench/results/recipes.json'), 'utf8')) as {
  results: { cells: Cells; retrieving: number };
};
const { cells, retrieving } = results;
const length = Number(Object.keys(cells)[0]!.split(' ')[1]);
const measured = measuredOf(cells, recipeSettings({ length, retrieving }), 'f16');
await writeFile(join(ROOT, 'models/kvasir-mini.measured.json'), `${JSON.stringify(measured, null, 1)}\n`);

await writeFile(join(ROOT, 'docs/recipes.md'), recipeReference());
const folder = join(ROOT, 'docs/methods');
await rm(folder, { recursive: true, force: true });
await mkdir(folder);
await writeFile(join(folder, 'README.md'), methodsIndex(measured));
for (const method of METHODS) await writeFile(join(folder, `${method.name}.md`), methodPage(method, measured));
