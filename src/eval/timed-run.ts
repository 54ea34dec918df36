import type { CacheSequence } from '../cache/sequence.ts';
import type { Program } from '../engine/program/program.ts';
import { Run, type RunContext, type SettledRows } from '../engine/program/run.ts';

/** A recipe at work, and the time that its decisions about prompts take: signals, plans and actions. Forks count together. */
export class TimedRun extends Run {
  readonly spent: { promptMs: number };
  readonly #lent: RunContext;

  constructor(
    program: Program,
    sequence: CacheSequence,
    context: RunContext,
    seed: number,
    spent: { promptMs: number } = { promptMs: 0 },
  ) {
    super(program, sequence, context, seed);
    this.#lent = context;
    this.spent = spent;
  }

  override settle(layer: number, rows: SettledRows): Uint32Array | null {
    const begin = performance.now();
    const kept = super.settle(layer, rows);
    this.spent.promptMs += performance.now() - begin;
    return kept;
  }

  override endPrompt(): void {
    const begin = performance.now();
    super.endPrompt();
    this.spent.promptMs += performance.now() - begin;
  }

  override fork(sequence: CacheSequence, seed: number): TimedRun {
    return new TimedRun(this.program, sequence, this.#lent, seed, this.spent);
  }
}
