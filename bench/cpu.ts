/**
 * npm run bench:cpu -- [--models a.gguf,b.gguf] [--rounds 5] [--threads 2] [--quick]
 *
 * Kvasir against llama.cpp (node-llama-cpp, prebuilt) on the same GGUF files, alternating in one run: load time, prefill,
 * decode, peak memory. Each contender is a process of its own that holds its model for the whole run; only one works at a time.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cacheDir } from '../src/model/hub/cache-dir.node.ts';
import { findShelved } from '../src/model/hub/shelf.node.ts';
import { alternate } from './lib/alternate.ts';
import { Busy } from './lib/busy.ts';
import { Child } from './lib/child.ts';
import { metadata } from './lib/metadata.ts';
import { writeResult } from './lib/result.ts';
import { median, ratio, uniform } from './lib/stats.ts';
import { digits, mebibytes, table } from './lib/table.ts';

const { values } = parseArgs({
  options: {
    models: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: '2' },
    quick: { type: 'boolean', default: false },
  },
});
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const bundled = here('../models/kvasir-mini.gguf');
const pulled = (await findShelved(cacheDir(), 'smollm2-135m'))?.path;
const models = values.models?.split(',') ?? [...(pulled ? [pulled] : []), bundled];
const threads = Number(values.threads);
const rounds = values.quick ? 2 : Number(values.rounds);
const lengths = values.quick ? [512] : [512, 4096];
const DECODE = 32;
/** Both models were trained for 8,192 tokens; both sides get room for the longest prompt here. */
const CONTEXT = 4352;

if (!existsSync(here('peers/node_modules')))
  execFileSync('npm', ['ci', '--prefix', here('peers')], { stdio: 'inherit' });

const CONTENDERS = [
  { name: 'kvasir f32', script: 'peers/kvasir.ts', options: { cache: 'f32' } },
  { name: 'kvasir f16', script: 'peers/kvasir.ts', options: { cache: 'f16' } },
  { name: 'kvasir int8', script: 'peers/kvasir.ts', options: { cache: 'int8' } },
  { name: 'llama.cpp f16', script: 'peers/llama.mjs', options: { cache: 'f16', flash: true } },
  { name: 'llama.cpp q8_0', script: 'peers/llama.mjs', options: { cache: 'q8_0', flash: true } },
];
const OURS = ['kvasir f32', 'kvasir f16', 'kvasir int8'];
const THEIRS = 'llama.cpp f16';

function peerVersion(): string {
  return JSON.parse(readFileSync(here('peers/node_modules/node-llama-cpp/package.json'), 'utf8')).version;
}

interface Sample {
  /** Milliseconds. */
  load: number;
  /** Tokens a second, by prompt length. */
  prefill: Record<number, number>;
  /** Tokens a second (median step), after a prompt of that length. */
  decode: Record<number, number>;
  /** Bytes. */
  peak: number;
}

const random = uniform(1);
const prompt = (length: number) => Array.from({ length }, () => 300 + Math.floor(random() * 5000));

async function measure(contender: (typeof CONTENDERS)[number], path: string): Promise<Sample> {
  await using child = new Child(contender.script);
  const { ms } = await child.call<{ ms: number }>('load', { path, threads, context: CONTEXT, ...contender.options });
  const sample: Sample = { load: ms, prefill: {}, decode: {}, peak: 0 };
  // What runs first in a process (compiling, paging in) is no one's steady speed.
  await child.call('generate', { tokens: prompt(64), decode: 8 });
  for (const length of [128, ...lengths]) {
    const { prefill, steps } = await child.call<{ prefill: number; steps: number[] }>('generate', {
      tokens: prompt(length),
      decode: DECODE,
    });
    sample.prefill[length] = (length * 1000) / prefill;
    sample.decode[length] = 1000 / median(steps);
  }
  sample.peak = child.memory().peak;
  return sample;
}

const results = [];
for (const path of models) {
  const busy = new Busy();
  const contenders = CONTENDERS.map(contender => ({ name: contender.name, run: () => measure(contender, path) }));
  const samples = await alternate(contenders, rounds, (name, round) =>
    process.stderr.write(`${basename(path)}: round ${round + 1} of ${rounds}, ${name}\n`),
  );
  const { machine, stolen } = busy.end();
  const longest = lengths.at(-1)!;
  const columns: [string, (sample: Sample) => number, (value: number) => string][] = [
    ['load ms', s => s.load, digits],
    ...lengths.map((n): [string, (s: Sample) => number, typeof digits] => [
      `prefill ${n} tok/s`,
      s => s.prefill[n]!,
      digits,
    ]),
    ['decode @128 tok/s', s => s.decode[128]!, digits],
    [`decode @${longest} tok/s`, s => s.decode[longest]!, digits],
    ['peak MiB', s => s.peak, mebibytes],
  ];
  const values = (name: string, of: (sample: Sample) => number) => samples.get(name)!.map(of);
  console.log(
    `\n${basename(path)}, ${threads} threads, medians of ${rounds} rounds; the machine was ${digits(machine * 100)} % busy`,
  );
  console.log(
    table(
      ['', ...columns.map(([name]) => name)],
      CONTENDERS.map(({ name }) => [name, ...columns.map(([, of, show]) => show(median(values(name, of))))]),
    ),
  );
  const ratios = OURS.flatMap(name =>
    columns.map(([column, of]) => ({ name, column, ...ratio(values(name, of), values(THEIRS, of)) })),
  );
  console.log(`\nours / ${THEIRS} [95 % interval]`);
  console.log(
    table(
      ['', ...columns.map(([name]) => name)],
      OURS.map(name => [
        name,
        ...columns.map(([column]) => {
          const found = ratios.find(r => r.name === name && r.column === column)!;
          return `${digits(found.value)} [${digits(found.low)}, ${digits(found.high)}]`;
        }),
      ]),
    ),
  );
  results.push({ model: basename(path), machine, stolen, samples: Object.fromEntries(samples), ratios });
}
console.log(`\nwritten to ${writeResult('cpu', metadata({ 'node-llama-cpp': peerVersion() }), results)}`);
