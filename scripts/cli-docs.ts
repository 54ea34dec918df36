/** Writes docs/cli.md from the commands' own help. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cliReference } from '../src/cli/reference.ts';
import { ROOT } from './steps.ts';

await writeFile(join(ROOT, 'docs', 'cli.md'), cliReference());
