/**
 * npm run bench:tune -- [--memory 2.5,4,6] [--agreement 0.98] [--length 1024] [--steps 128] [--windows 3] [--held-out 4] [--trials 60] [--n 4] [--tables 20] [--only tuned] [--fresh] [--markdown] [--docs]
 *
 * `kvasir tune` on the bundled model: recipes within limits of memory (MiB), and one at an agreement, held against every method alone, at equal bytes, on text and
 * tasks that were not searched on; the searched table of widths among random ones; keys first or values first; and how stable the
 * sensitivities of layers are from text to text.
 *
 * Written after each part; a part that is there is not run again, whatever commit it is of (each says which). `--fresh` runs all
 * anew; `--only` takes parts whose name begins so; `--markdown` runs nothing and prints what is there; `--docs` puts that into docs/tune.md.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { bundledCorpus } from '../src/eval/corpus.node.ts';
import { openModelForEval } from '../src/eval/open.node.ts';
import { findTask } from '../src/eval/tasks/index.ts';
import { intoDocs } from './lib/docs.ts';
import { positive } from './lib/flags.ts';
import { metadata } from './lib/metadata.ts';
import { MINI } from './lib/models.ts';
import { writeResult } from './lib/result.ts';
import { blocks } from './lib/table.ts';
import { type TunePart, TuneParts, type TuneSize } from './lib/tune-parts.ts';
import { tuneTables } from './lib/tune-tables.ts';

const { values: flags } = parseArgs({
  options: {
    memory: { type: 'string', default: '2.5,4,6' },
    agreement: { type: 'string', default: '0.98' },
    length: { type: 'string', default: '1024' },
    steps: { type: 'string', default: '128' },
    windows: { type: 'string', default: '3' },
    'held-out': { type: 'string', default: '4' },
    trials: { type: 'string', default: '60' },
    n: { type: 'string', default: '4' },
    tables: { type: 'string', default: '20' },
    tasks: { type: 'string', default: 'niah-number,niah-multikey,vt-1x4' },
    threads: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    fresh: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    docs: { type: 'boolean', default: false },
  },
});
const limits = flags.memory.split(',').map(text => {
  const mib = Number(text);
  if (!(mib > 0)) throw new Error(`--memory is "${flags.memory}"; allowed: MiB above 0, commas between`);
  return Math.round(mib * 2 ** 20);
});
const agreements = flags.agreement === '' ? [] : flags.agreement.split(',').map(Number);
const tasks = flags.tasks.split(',').map(findTask);
const tables = positive('tables', flags.tables);
const size: TuneSize = {
  length: positive('length', flags.length),
  steps: positive('steps', flags.steps),
  windows: positive('windows', flags.windows),
  heldOut: positive('held-out', flags['held-out']),
  trials: positive('trials', flags.trials),
  n: positive('n', flags.n),
  seed: 0,
};
/** Tables of widths alone, without a choice of tokens, fit into no less. */
const most = Math.max(...limits);
const parts: readonly (readonly [name: string, run: (bench: TuneParts) => Promise<TunePart>])[] = [
  ...limits.map(memory => [`tuned ${memory}`, (bench: TuneParts) => bench.tuned({ memory })] as const),
  ...agreements.map(
    agreement => [`tuned agreement ${agreement}`, (bench: TuneParts) => bench.tuned({ agreement })] as const,
  ),
  [`random ${most} of ${tables}`, bench => bench.random(most, tables)],
  ['pairs', bench => bench.pairs()],
  ['stability', bench => bench.stability()],
];
/** All that a part depends on but the code. */
const keyOf = (name: string): string =>
  `kvasir-mini ${name} ${Object.entries(size)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ')} ${flags.tasks}`;

type Stored = TunePart & { readonly seconds: number; readonly commit: string; readonly dirty: boolean };
const stored = fileURLToPath(new URL('results/tune.json', import.meta.url));
const done: Record<string, Stored> =
  existsSync(stored) && !flags.fresh
    ? (JSON.parse(readFileSync(stored, 'utf8')) as { results: { parts: Record<string, Stored> } }).results.parts
    : {};

if (!flags.markdown && !flags.docs) {
  const run = metadata();
  await using opened = await openModelForEval(
    { name: 'kvasir-mini', path: MINI },
    { threads: positive('threads', flags.threads) },
  );
  using bench = new TuneParts(opened.model, await bundledCorpus(), tasks, size);
  for (const [name, measure] of parts) {
    if (done[keyOf(name)] || !name.startsWith(flags.only)) continue;
    const begin = performance.now();
    const part = await measure(bench);
    const seconds = (performance.now() - begin) / 1000;
    done[keyOf(name)] = { ...part, seconds, commit: run.commit, dirty: run.dirty };
    writeResult('tune', run, { parts: done });
    process.stderr.write(`${name}: ${seconds.toFixed(1)} s\n`);
  }
}

const shown = parts.flatMap(([name]) => (name.startsWith(flags.only) ? (done[keyOf(name)] ?? []) : []));
const form = flags.markdown || flags.docs ? 'markdown' : 'text';
const text = blocks(tuneTables(shown, form === 'markdown' ? name => `\`${name}\`` : name => name), form);
if (flags.docs) {
  const note = `kvasir-mini, ${size.length} tokens and ${size.steps} forced after them; ${size.windows} windows searched on, ${size.heldOut} of another book held out; tasks: ${flags.tasks.replaceAll(',', ', ')}, ${size.n} instances each; exact pages in f32.`;
  intoDocs('tune.md', 'tune', `${note}\n\n${text}`);
} else console.log(text);
