import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Metadata } from './metadata.ts';

/** Writes bench/results/<name>.json, whole or not at all; gives its path. */
export function writeResult(name: string, run: Metadata, results: unknown): string {
  const folder = fileURLToPath(new URL('../results', import.meta.url));
  mkdirSync(folder, { recursive: true });
  const path = `${folder}/${name}.json`;
  writeFileSync(`${path}.part`, `${JSON.stringify({ name, run, results }, null, 2)}\n`);
  renameSync(`${path}.part`, path);
  return path;
}
