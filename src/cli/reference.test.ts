import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { cliReference } from './reference.ts';

test('docs/cli.md is what the command line says of itself (node scripts/cli-docs.ts)', async () => {
  expect(await readFile(new URL('../../docs/cli.md', import.meta.url), 'utf8')).toBe(cliReference());
});
