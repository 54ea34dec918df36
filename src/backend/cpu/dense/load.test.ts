import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const model = 'models/kvasir-mini.gguf';

test.skipIf(!existsSync(`${root}/${model}`) || process.platform !== 'linux')(
  `a load of ${model} in a fresh process stays under 1.5 times its repacked weights plus 200 MB`,
  { timeout: 60_000 },
  () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['bench/load.ts', model], {
      cwd: root,
      encoding: 'utf8',
    });
    expect(status, stdout + stderr).toBe(0);
    expect(stdout).toMatch(/^first .*\n *second /);
  },
);
