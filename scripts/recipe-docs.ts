/** Writes docs/recipes.md from the registry of methods. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { recipeReference } from '../src/methods/reference.ts';
import { ROOT } from './steps.ts';

await writeFile(join(ROOT, 'docs', 'recipes.md'), recipeReference());
