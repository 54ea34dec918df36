import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KvasirError } from '../../errors.ts';
import { writeWhole } from '../result.node.ts';
import type { ComparePlan } from './plan.ts';
import { RESULT_VERSION } from './result.ts';
import type { Cell, Cells } from './run.ts';

/** Cells by name, each with the code that measured it. */
type Kept = Record<string, { readonly code: string; readonly cell: Cell }>;

/** Under what is measured: how the model was loaded, and within which limits. Whatever is not named is at its default. */
export type Conditions = Readonly<Record<string, unknown>> & { readonly fingerprint: string };

/** Cells on disk, each written when it is done; a comparison that was stopped goes on from there. */
export class CompareState {
  readonly path: string;
  readonly key: string;
  readonly code: string;
  readonly cells: Cells;

  private constructor(path: string, key: string, code: string, cells: Cells) {
    this.path = path;
    this.key = key;
    this.code = code;
    this.cells = cells;
  }

  /**
   * Opens the state of this plan under these conditions, empty where there is none. What other code has measured, and what has
   * failed, is to be measured again. Without a path it has a file of its own in `folder`.
   * @throws KvasirError `invalid_request` where a given file is of another plan, conditions or version, unless `fresh`
   */
  static async open(
    { path, folder, fresh }: { path?: string; folder: string; fresh: boolean },
    plan: ComparePlan,
    conditions: Conditions,
    code: string,
  ): Promise<CompareState> {
    const key = keyOf(plan, conditions);
    const file = path ?? join(folder, `${key.slice(0, 16)}.json`);
    if (!path) await mkdir(folder, { recursive: true });
    const text = fresh ? undefined : await readFile(file, 'utf8').catch(absent);
    if (text === undefined) return new CompareState(file, key, code, {});
    const state = parse(text);
    if (state?.key === key) {
      const valid = Object.entries(state.cells).filter(([, kept]) => kept.code === code && kept.cell.kind !== 'failed');
      return new CompareState(file, key, code, Object.fromEntries(valid.map(([name, { cell }]) => [name, cell])));
    }
    throw new KvasirError('invalid_request', 'the file holds another comparison', {
      field: '--state',
      value: file,
      allowed: 'the file of the same model, text, recipes and settings, a new file, or --fresh',
    });
  }

  async add(name: string, cell: Cell): Promise<void> {
    this.cells[name] = cell;
    const { key, code } = this;
    const cells: Kept = Object.fromEntries(Object.entries(this.cells).map(([name, cell]) => [name, { code, cell }]));
    await writeWhole(this.path, JSON.stringify({ kvasir: 'compare-state', key, cells }));
  }
}

/** Recipes are not part of it: adding one measures that one only. */
function keyOf({ recipes: _, books, text, tasks, ...rest }: ComparePlan, conditions: Conditions): string {
  const hash = createHash('sha256');
  const names = tasks.map(task => task.name);
  const under = Object.entries(conditions).sort(([a], [b]) => (a < b ? -1 : 1));
  hash.update(JSON.stringify([RESULT_VERSION, under, text.content, text.question ?? null, names, rest]));
  for (const book of books) hash.update(book);
  return hash.digest('hex');
}

function parse(text: string): { key: string; cells: Kept } | undefined {
  try {
    const value = JSON.parse(text) as { kvasir?: string; key: string; cells: Kept };
    return value.kvasir === 'compare-state' ? value : undefined;
  } catch {
    return undefined;
  }
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
  return undefined;
}
