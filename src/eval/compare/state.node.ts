import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KvasirError } from '../../errors.ts';
import { writeWhole } from '../result.node.ts';
import type { ComparePlan } from './plan.ts';
import { RESULT_VERSION } from './result.ts';
import type { Cell, Cells } from './run.ts';

/** Cells on disk, each written when it is done; a comparison that was stopped goes on from there. */
export class CompareState {
  readonly path: string;
  readonly key: string;
  readonly cells: Cells;

  private constructor(path: string, key: string, cells: Cells) {
    this.path = path;
    this.key = key;
    this.cells = cells;
  }

  /**
   * Opens the state of this plan on this model, empty where there is none. Without a path it has a file of its own in `folder`.
   * @throws KvasirError `invalid_request` where a given file is of another plan, model or version, unless `fresh`
   */
  static async open(
    { path, folder, fresh }: { path?: string; folder: string; fresh: boolean },
    plan: ComparePlan,
    fingerprint: string,
  ): Promise<CompareState> {
    const key = keyOf(plan, fingerprint);
    const file = path ?? join(folder, `${key.slice(0, 16)}.json`);
    if (!path) await mkdir(folder, { recursive: true });
    const text = fresh ? undefined : await readFile(file, 'utf8').catch(absent);
    if (text === undefined) return new CompareState(file, key, {});
    const state = parse(text);
    if (state?.key === key) return new CompareState(file, key, state.cells);
    throw new KvasirError('invalid_request', 'the file holds another comparison', {
      field: '--state',
      value: file,
      allowed: 'the file of the same model, text, recipes and settings, a new file, or --fresh',
    });
  }

  async add(name: string, cell: Cell): Promise<void> {
    this.cells[name] = cell;
    await writeWhole(this.path, JSON.stringify({ kvasir: 'compare-state', key: this.key, cells: this.cells }));
  }
}

/** Recipes are not part of it: adding one measures that one only. */
function keyOf({ recipes: _, books, text, tasks, ...rest }: ComparePlan, fingerprint: string): string {
  const hash = createHash('sha256');
  const names = tasks.map(task => task.name);
  hash.update(JSON.stringify([RESULT_VERSION, fingerprint, text.content, text.question ?? null, names, rest]));
  for (const book of books) hash.update(book);
  return hash.digest('hex');
}

function parse(text: string): { key: string; cells: Cells } | undefined {
  try {
    const value = JSON.parse(text) as { kvasir?: string; key: string; cells: Cells };
    return value.kvasir === 'compare-state' ? value : undefined;
  } catch {
    return undefined;
  }
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
  return undefined;
}
