import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ModelInfo } from '../engine/types.ts';
import { type Metadata, metadata } from './metadata.node.ts';
import type { Cell, EvalPlan } from './run.ts';

/** Everything about one run of an evaluation, ready for JSON. */
export function evalResult(info: ModelInfo, plan: EvalPlan, cells: readonly Cell[], run: Metadata = metadata()) {
  const { tasks, texts, lengths, n, seed, caches, meter, phrasing } = plan;
  return {
    run,
    model: modelOf(info),
    plan: { tasks: tasks.map(task => task.name), texts, lengths, n, seed, caches, meter, phrasing },
    cells,
  };
}

/** Which model a result is of, and how it was computed. */
export function modelOf({ name, fingerprint, mode, provider }: ModelInfo) {
  return { name, fingerprint, mode, provider };
}

/** Writes a file whole or not at all. */
export async function writeWhole(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.part`, content);
  await rename(`${path}.part`, path);
}
