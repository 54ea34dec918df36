import type { CacheSequence } from '../cache/sequence.ts';
import type { Forward } from '../engine/forward.ts';
import type { Run } from '../engine/program/run.ts';
import type { Pause, Sink } from './feed.ts';

export interface Forcing {
  readonly forward: Forward;
  readonly sequence: CacheSequence;
  readonly run: Run | null;
  /** All of the sequence's; those from `from` on are forced. */
  readonly tokens: readonly number[];
  readonly from: number;
  readonly logits: 'last' | 'all';
  readonly pause: Pause;
  /** Rows have run, and the recipe has not acted on the pages that they filled. */
  readonly onRows?: () => void;
}

/** Runs tokens as if they had been written: in tiles that end where a page fills, or one by one where a recipe looks at each step. */
export async function force(
  { forward, sequence, run, tokens, from: begin, logits, pause, onRows }: Forcing,
  sink: Sink,
): Promise<void> {
  const hooks = run?.stepwise ? run : undefined;
  for (let from = begin, rows = 0; from < tokens.length; from += rows) {
    await pause();
    rows = Math.min(run?.together ?? Number.POSITIVE_INFINITY, forward.workspace.tile, tokens.length - from);
    const wanted = logits === 'all' ? 'all' : from + rows === tokens.length ? 'last' : 'none';
    if (!hooks) sequence.prepareAppend(rows);
    const work = { sequence, tokens, from, rows, position: from, logits: wanted, ...(hooks && { hooks }) } as const;
    await forward.step([work], (done, row, values) => sink(done.position + row, values));
    onRows?.();
    run?.afterStep(rows);
  }
}
