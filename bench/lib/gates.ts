import type { LoadedModel } from '../../src/engine/loaded-model.ts';
import { cacheSetting } from '../../src/eval/cache-setting.ts';
import { runEval, type TaskCell } from '../../src/eval/run.ts';
import { findTask } from '../../src/eval/tasks/index.ts';
import { isSane } from '../../src/methods/sane.ts';

/** One needle, the question in the prompt: the needle task in which the bundled model is surest with the full cache. */
export const GATE = { task: 'niah-number', length: 4096, seed: 0 } as const;

export interface Gate {
  readonly recipe: string;
  /** Of the full cache's score on the same instances. */
  readonly atLeast?: number;
  readonly atMost?: number;
}

/**
 * What the bundled model must show. StreamingLLM and random eviction do not look at the question: what they pass is no evidence
 * for a method. 2 bits are measured and promise nothing. This tokenizer spends one token a digit, and SnapKV's default width of 7
 * keeps three neighbours of a peak: numbers of six digits are cut. Width 15 keeps them whole; the default is measured beside it.
 */
export const GATES: readonly Gate[] = [
  { recipe: 'snapkv(keep=0.2, width=15)', atLeast: 0.9 },
  { recipe: 'snapkv(keep=0.2)' },
  { recipe: 'random(keep=0.2)', atMost: 0.5 },
  { recipe: 'streaming-llm(keep=0.2)', atMost: 0.4 },
  { recipe: 'kivi(bits=4)', atLeast: 1 },
  { recipe: 'kivi(bits=2)' },
];

export interface Verdict extends Gate {
  readonly right: number;
  readonly n: number;
  /** Of the full cache's. */
  readonly share: number;
  readonly passed: boolean;
  readonly cell: TaskCell;
}

/** Raises where the full cache's score is so low that the gates would say nothing. */
export function judge(full: TaskCell, cells: readonly TaskCell[], gates: readonly Gate[]): Verdict[] {
  if (!isSane(full.right / full.n))
    throw new Error(`the full cache scores ${full.right} of ${full.n}: no claim rests on that`);
  return gates.map((gate, i) => {
    const cell = cells[i]!;
    const share = cell.right / full.right;
    const passed = share >= (gate.atLeast ?? 0) && share <= (gate.atMost ?? Number.POSITIVE_INFINITY);
    return { ...gate, right: cell.right, n: cell.n, share, passed, cell };
  });
}

/** Runs the full cache and the gates on the same instances. */
export async function runGates(
  model: LoadedModel,
  books: readonly string[],
  n: number,
  gates: readonly Gate[] = GATES,
  onCell?: (cell: TaskCell) => void,
): Promise<{ full: TaskCell; verdicts: Verdict[] }> {
  const plan = {
    tasks: [findTask(GATE.task)],
    texts: [],
    lengths: [GATE.length],
    n,
    seed: GATE.seed,
    caches: ['f32', ...gates.map(gate => gate.recipe)].map(text => cacheSetting(text)),
    meter: 'forced',
    phrasing: 'training',
    books,
  } as const;
  const cells = (await runEval(model, plan, { onCell: cell => onCell?.(cell as TaskCell) })) as TaskCell[];
  const [full, ...others] = cells;
  return { full: full!, verdicts: judge(full!, others, gates) };
}
