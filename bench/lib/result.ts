import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Metadata } from './metadata.ts';

const FOLDER = fileURLToPath(new URL('../results', import.meta.url));

/** Writes bench/results/<name>.json, whole or not at all; gives its path. */
export function writeResult(name: string, run: Metadata, results: unknown): string {
  mkdirSync(FOLDER, { recursive: true });
  const path = `${FOLDER}/${name}.json`;
  writeFileSync(`${path}.part`, `${JSON.stringify({ name, run, results }, null, 2)}\n`);
  renameSync(`${path}.part`, path);
  return path;
}

/** The last run of that name. */
export function readRecord<T>(name: string): { readonly run: Metadata; readonly results: T } {
  return JSON.parse(readFileSync(`${FOLDER}/${name}.json`, 'utf8')) as { run: Metadata; results: T };
}

export function readResult<T>(name: string): T {
  return readRecord<T>(name).results;
}

export function hasResult(name: string): boolean {
  return existsSync(`${FOLDER}/${name}.json`);
}
