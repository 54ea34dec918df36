import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GATE, GATES, runGates, type Verdict } from '../bench/lib/gates.ts';
import { bundledCorpus } from '../src/eval/corpus.node.ts';
import { openModelForEval } from '../src/eval/open.node.ts';
import type { TaskCell } from '../src/eval/run.ts';
import { BUNDLED } from './models.ts';

/** As many as a minute allows on two cores; `npm run bench:gates` runs 30, and its numbers are the ones to quote. */
const N = 4;
const gates = GATES.filter(({ atLeast, atMost }) => atLeast !== undefined || atMost !== undefined);

describe(`one needle in ${GATE.length} tokens, the question in the prompt, a fifth of the cache: ${N} instances`, () => {
  let full: TaskCell;
  let verdicts: Verdict[];
  beforeAll(async () => {
    await using opened = await openModelForEval({ name: 'kvasir-mini', path: BUNDLED }, { threads: 2 });
    ({ full, verdicts } = await runGates(opened.model, await bundledCorpus(), N, gates));
  }, 600_000);
  afterAll(() => {
    for (const { recipe, right, n } of verdicts ?? []) console.log(`${recipe}: ${right}/${n}, full ${full.right}/${n}`);
  });

  test('the full cache is sure of it, so that the rest says something', () => {
    expect(full.right).toBe(N);
  });

  test.each(gates.map((gate, i) => [gate.recipe, i, gate] as const))('%s', (_, i, { atLeast, atMost }) => {
    const { share, cell } = verdicts[i]!;
    if (atLeast !== undefined) expect(share).toBeGreaterThanOrEqual(atLeast);
    if (atMost !== undefined) expect(share).toBeLessThanOrEqual(atMost);
    expect(cell.held).toBeLessThan(0.25 * full.held);
    expect(cell.peak).toBeLessThan(0.35 * full.peak);
  });
});
