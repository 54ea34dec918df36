/**
 * Builds what a clone needs to run (kernels and page, under build/) and what a package holds (dist/).
 *
 * dist/ mirrors the repository: dist/src/** as JavaScript with declarations, dist/build/** and dist/models/** as they
 * are. So every path from a source file to a kernel, the page or a model is the same in both layouts.
 */
import { cp, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT, step } from './steps.ts';

const node = process.execPath;
const dist = join(ROOT, 'dist');
const started = performance.now();

await rm(dist, { recursive: true, force: true });
await step(node, ['scripts/build-kernels.ts']);
await Promise.all([
  step(node, ['node_modules/vite/bin/vite.js', 'build', 'web', '--logLevel', 'warn']),
  step(node, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json']),
]);
await mkdir(join(dist, 'models'), { recursive: true });
// The bundled model, its profiles and its measurements.
const models = (await readdir(join(ROOT, 'models'))).filter(name => name.startsWith('kvasir-mini.'));
await Promise.all([
  cp(join(ROOT, 'build'), join(dist, 'build'), { recursive: true }),
  ...models.map(name => cp(join(ROOT, 'models', name), join(dist, 'models', name))),
  cp(join(ROOT, 'package.json'), join(dist, 'package.json')),
]);
console.log(`built in ${((performance.now() - started) / 1000).toFixed(1)} s`);
