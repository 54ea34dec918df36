/**
 * npm run bench:gates -- [--n 30] [--threads 2]
 *
 * The gates of the bundled model: one needle in 4,096 tokens, the question in the prompt, a fifth of the cache.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { bundledCorpus } from '../src/eval/corpus.node.ts';
import { openModelForEval } from '../src/eval/open.node.ts';
import { interval } from '../src/eval/report.ts';
import { GATE, GATES, runGates } from './lib/gates.ts';
import { metadata } from './lib/metadata.ts';
import { writeResult } from './lib/result.ts';
import { digits, mebibytes, table } from './lib/table.ts';

const { values: flags } = parseArgs({
  options: { n: { type: 'string', default: '30' }, threads: { type: 'string', default: '2' } },
});
const [n, threads] = [Number(flags.n), Number(flags.threads)];
const path = fileURLToPath(new URL('../models/kvasir-mini.gguf', import.meta.url));

await using opened = await openModelForEval({ name: 'kvasir-mini', path }, { threads });
const run = metadata();
const { full, verdicts } = await runGates(opened.model, await bundledCorpus(), n, GATES, cell =>
  process.stderr.write(`${cell.cache}: ${cell.right}/${cell.n} in ${digits(cell.seconds)} s\n`),
);
const percent = (share: number) => `${digits(share * 100)} %`;
const bound = ({ atLeast, atMost }: (typeof GATES)[number]) =>
  atLeast !== undefined ? `>= ${atLeast}` : atMost !== undefined ? `<= ${atMost}` : '';
const range = (right: number) => interval(right, n).map(percent).join(' to ');

console.log(`\n${GATE.task}, ${GATE.length} tokens, ${n} instances, seed ${GATE.seed}`);
console.log(
  table(
    ['', 'right', '95 %', 'of full', 'gate', '', 'held MiB', 'peak MiB'],
    [
      ['full, f32', String(full.right), range(full.right), '', '', '', mebibytes(full.held), mebibytes(full.peak)],
      ...verdicts.map(verdict => [
        verdict.recipe,
        String(verdict.right),
        range(verdict.right),
        percent(verdict.share),
        bound(verdict),
        bound(verdict) && (verdict.passed ? 'passed' : 'missed'),
        mebibytes(verdict.cell.held),
        mebibytes(verdict.cell.peak),
      ]),
    ],
  ),
);
console.log(`\nwritten to ${writeResult('gates', run, { ...GATE, n, full, verdicts })}`);
if (verdicts.some(({ passed }) => !passed)) process.exitCode = 1;
