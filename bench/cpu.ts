/**
 * npm run bench:cpu -- [--models a.gguf,b.gguf] [--rounds 5] [--threads 2] [--quick]
 *
 * Kvasir against llama.cpp (node-llama-cpp, its prebuilt binary) on the same GGUF files, alternating in one run: load time,
 * prefill, decode, peak memory. Load time is from the start of the process until it can answer. Every sample is a fresh process, and only one works at a time.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cacheDir } from '../src/model/hub/cache-dir.node.ts';
import { findShelved } from '../src/model/hub/shelf.node.ts';
import { alternate } from './lib/alternate.ts';
import { Busy } from './lib/busy.ts';
import { Child } from './lib/child.ts';
import { metadata } from './lib/metadata.ts';
import { writeResult } from './lib/result.ts';
import { median, quantile, ratio, uniform } from './lib/stats.ts';
import { digits, mebibytes, table } from './lib/table.ts';

const { values: flags } = parseArgs({
  options: {
    models: { type: 'string' },
    rounds: { type: 'string' },
    threads: { type: 'string', default: '2' },
    quick: { type: 'boolean', default: false },
  },
});
const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const pulled = (await findShelved(cacheDir(), 'smollm2-135m'))?.path ?? process.env.KVASIR_SMOLLM2;
const models = flags.models?.split(',') ?? [...(pulled ? [pulled] : []), here('../models/kvasir-mini.gguf')];
if (!flags.models && !pulled)
  console.warn('no SmolLM2: `kvasir pull smollm2-135m` fetches it, --models or KVASIR_SMOLLM2 names a GGUF');
const threads = positive('threads', flags.threads);
const rounds = positive('rounds', flags.rounds ?? (flags.quick ? '1' : '5'));
const long = flags.quick ? 1024 : 4096;
/** Steps timed after each prompt. */
const STEPS = flags.quick ? 16 : 48;
/** Both models were trained for 8,192 tokens; both sides get room for the longest prompt here, as llama.cpp takes it all at once. */
const CONTEXT = 4352;

const CONTENDERS = [
  { name: 'kvasir f32', script: 'peers/kvasir.ts', options: { cache: 'f32' } },
  { name: 'kvasir f16', script: 'peers/kvasir.ts', options: { cache: 'f16' } },
  { name: 'kvasir int8', script: 'peers/kvasir.ts', options: { cache: 'int8' } },
  // Its best settings of those tried: flash attention (q8_0 pages need it), batches of 512.
  { name: 'llama.cpp f16', script: 'peers/llama.mjs', options: { cache: 'f16', flash: true } },
  { name: 'llama.cpp q8_0', script: 'peers/llama.mjs', options: { cache: 'q8_0', flash: true } },
] as const;
type Contender = (typeof CONTENDERS)[number];
const names = CONTENDERS.map(({ name }) => name);
const ours = names.filter(name => name.startsWith('kvasir'));
const theirs = names.filter(name => !ours.includes(name));

/** What one round gives: milliseconds, tokens a second or bytes, by the names of METRICS. */
type Sample = Record<string, number>;

interface Metric {
  readonly name: string;
  /** Which is better. */
  readonly more: boolean;
  readonly show: (value: number) => string;
  /** Ours over theirs, for our page format of that name. */
  readonly aim?: { readonly cache: string; readonly atLeast: number };
}

const rate = (name: string, aim?: Metric['aim']): Metric => ({ name, more: true, show: digits, ...(aim && { aim }) });
const METRICS: readonly Metric[] = [
  { name: 'first load, ms', more: false, show: digits },
  { name: 'second load, ms', more: false, show: digits },
  rate('prefill 512, tok/s', { cache: 'f32', atLeast: 0.8 }),
  rate(`prefill ${long}, tok/s`, { cache: 'f32', atLeast: 0.8 }),
  rate('decode after 128, tok/s', { cache: 'f32', atLeast: 0.8 }),
  rate(`decode after ${long}, tok/s`, { cache: 'int8', atLeast: 1 }),
  rate('- its fastest tenth, 128', { cache: 'f32', atLeast: 0.8 }),
  rate(`- its fastest tenth, ${long}`, { cache: 'int8', atLeast: 1 }),
  { name: 'peak memory, MiB', more: false, show: mebibytes },
];

let used = 0; // processor seconds of all children so far

async function measure(contender: Contender, path: string, round: number): Promise<Sample> {
  const folder = mkdtempSync(join(tmpdir(), 'kvasir-bench-'));
  const load = { path, threads, context: CONTEXT, cacheDir: folder, ...contender.options };
  const sample: Sample = {};
  try {
    {
      const begin = performance.now();
      await using first = new Child(contender.script);
      await first.call('load', load);
      sample['first load, ms'] = performance.now() - begin;
      used += first.processorSeconds();
    }
    const begin = performance.now();
    await using child = new Child(contender.script);
    const { vocab } = await child.call<{ vocab: number }>('load', load);
    sample['second load, ms'] = performance.now() - begin;

    const random = uniform(round + 1);
    const prompt = (length: number) => Array.from({ length }, () => 3 + Math.floor(random() * (vocab - 3)));
    const run = (length: number, decode: number) =>
      child.call<{ prefill: number; steps: number[] }>('generate', { tokens: prompt(length), decode });
    // What runs first in a process (compiling, paging in) is no one's steady speed.
    await run(64, 8);
    sample['prefill 512, tok/s'] = (512 * 1000) / (await run(512, 1)).prefill;
    for (const length of [128, long]) {
      const { prefill, steps } = await run(length, STEPS);
      if (length === long) sample[`prefill ${long}, tok/s`] = (length * 1000) / prefill;
      sample[`decode after ${length}, tok/s`] = 1000 / median(steps);
      sample[`- its fastest tenth, ${length}`] = 1000 / quantile(steps, 0.1);
      sample[`mean decode after ${length}, tok/s`] = (1000 * steps.length) / steps.reduce((sum, step) => sum + step);
    }
    sample['peak memory, MiB'] = child.memory().peak;
    used += child.processorSeconds();
    return sample;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function compare(path: string) {
  const busy = new Busy();
  const before = used;
  const samples = await alternate(
    CONTENDERS.map(contender => ({ name: contender.name, run: round => measure(contender, path, round) })),
    rounds,
    (name, round) => process.stderr.write(`${basename(path)}: round ${round + 1} of ${rounds}, ${name}\n`),
  );
  const machine = busy.end(used - before);
  const of = (name: string, metric: Metric): number[] => samples.get(name)!.map(sample => sample[metric.name]);
  const rows = METRICS.map(metric => {
    const medians = Object.fromEntries(names.map(name => [name, median(of(name, metric))]));
    const best = [...theirs].sort((a, b) => (metric.more ? medians[b] - medians[a] : medians[a] - medians[b]))[0];
    const ratios = Object.fromEntries(ours.map(name => [name, ratio(of(name, metric), of(best, metric))]));
    return { metric, medians, best, ratios };
  });

  console.log(
    `\n${basename(path)}, ${threads} threads, medians of ${rounds} rounds; ratios to the better of theirs [95 %]`,
  );
  console.log(
    table(
      ['', ...names, ...ours.map(name => `${name.slice('kvasir '.length)} ratio`), 'aim'],
      rows.map(({ metric, medians, ratios }) => [
        metric.name,
        ...names.map(name => metric.show(medians[name])),
        ...ours.map(name => {
          const { value, low, high } = ratios[name];
          return rounds < 2 ? digits(value) : `${digits(value)} [${digits(low)}, ${digits(high)}]`;
        }),
        verdict(metric, ratios),
      ]),
    ),
  );
  if (machine.others > 0.05)
    console.log(
      `Others used ${digits(machine.others * 100)} % of the machine meanwhile. llama.cpp's threads wait for each other at every ` +
        'operation and suffer more from that than ours: the fastest tenth of the steps is the fairer figure then.',
    );
  return {
    model: basename(path),
    machine,
    samples: Object.fromEntries(samples),
    rows: rows.map(({ metric, medians, best, ratios }) => ({ metric: metric.name, medians, best, ratios })),
  };
}

function verdict({ aim }: Metric, ratios: Record<string, { value: number }>): string {
  if (!aim) return '';
  const met = ratios[`kvasir ${aim.cache}`].value >= aim.atLeast;
  return `${aim.cache} >= ${aim.atLeast}: ${met ? 'met' : 'missed'}`;
}

function positive(flag: string, text: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new Error(`--${flag} is "${text}"; allowed: a whole number from 1 to 9999`);
  return Number(text);
}

function peerVersion(): string {
  return (
    JSON.parse(readFileSync(here('peers/node_modules/node-llama-cpp/package.json'), 'utf8')) as { version: string }
  ).version;
}

if (!existsSync(here('peers/node_modules')))
  execFileSync('npm', ['ci', '--prefix', here('peers')], { stdio: ['ignore', 'inherit', 'inherit'] });
for (const path of models) if (!existsSync(path)) throw new Error(`--models names ${path}, which is not there`);

const run = metadata({ 'node-llama-cpp': peerVersion() });
const results = [];
for (const path of models) results.push(await compare(path));
// A quick run is a look, not a record.
console.log(`\nwritten to ${writeResult(flags.quick ? 'cpu-quick' : 'cpu', run, results)}`);
