/**
 * npm run bench:peak -- [--model a.gguf] [--tokens 8192] [--only snapkv,kivi] [--threads 2] [--quick] [--markdown] [--docs]
 *
 * Bytes under every method of the registry, at its defaults and at keep=0.25 where it has that option, against the full
 * cache, a fresh process each: a prompt of real text, then 64 steps of decoding, `tokens` in all. --only runs some anew and
 * leaves the other rows of the record (each says of which commit it is). --markdown runs nothing and prints the table of the record;
 * --docs puts it into docs/benchmarks.md.
 */
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import type { ByteItems } from '../src/cache/types.ts';
import { METHODS } from '../src/methods/index.ts';
import { optionsOf } from '../src/methods/options.ts';
import type { Method } from '../src/methods/types.ts';
import { Child } from './lib/child.ts';
import { intoDocs } from './lib/docs.ts';
import { chosen, positive } from './lib/flags.ts';
import { metadata } from './lib/metadata.ts';
import { MINI } from './lib/models.ts';
import { hasResult, readRecord, readResult, writeResult } from './lib/result.ts';
import { type Block, blocks, mebibytes } from './lib/table.ts';

/** Steps of decoding: methods that decide at each step, or when a page is full, do so. */
const STEPS = 64;
const KEEP = 0.25;

interface Stats {
  readonly held: number;
  readonly peak: number;
  readonly parked: number;
  readonly bytes: ByteItems;
  readonly kept: number;
  readonly cachePeak: number;
}

interface Row {
  readonly recipe: string;
  readonly commit?: string;
  readonly failed?: string;
  /** After the prompt, and at the end. */
  readonly prompt?: Stats;
  readonly end?: Stats;
  /** Resident bytes of the process (VmHWM): at its most, and when the model had been loaded. */
  readonly resident?: { readonly peak: number; readonly loaded: number };
}

interface Results {
  readonly model: string;
  readonly tokens: number;
  readonly steps: number;
  readonly rows: readonly Row[];
  /** Recipes at keep=0.25 whose cache peak is more than half of the full cache's. */
  readonly overHalf: readonly string[];
}

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string', default: MINI },
    tokens: { type: 'string' },
    only: { type: 'string' },
    threads: { type: 'string', default: '2' },
    quick: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    docs: { type: 'boolean', default: false },
  },
});
// A quick run is a look, not a record.
const NAME = flags.quick ? 'peak-quick' : 'peak';
const methods: readonly Method[] = METHODS;

if (flags.markdown || flags.docs) {
  const text = blocks([show(readResult<Results>(NAME))], 'markdown');
  console.log(text);
  if (flags.docs) intoDocs('benchmarks.md', 'peak', text);
} else await main();

async function main(): Promise<void> {
  const tokens = positive('tokens', flags.tokens ?? (flags.quick ? '1024' : '8192'));
  const threads = positive('threads', flags.threads);
  if (tokens <= STEPS) throw new Error(`--tokens is ${tokens}; allowed: more than ${STEPS}`);
  const recipes = methods.filter(({ name }) => name !== 'full').flatMap(recipesOf);
  const run = metadata();
  const profiles = new Map<string, unknown>();
  const model = basename(flags.model);
  const wanted = new Set(['full', ...chosen(recipes, text => text, flags.only)]);
  const rows: Row[] = [];
  for (const recipe of ['full', ...recipes]) {
    if (!wanted.has(recipe)) {
      const old = recorded(model, tokens).find(row => row.recipe === recipe);
      if (old) rows.push(old);
      continue;
    }
    process.stderr.write(`${recipe}\n`);
    const { commit } = run;
    try {
      rows.push({ commit, ...(await measure(recipe, { tokens, threads, profiles })) });
    } catch (error) {
      const failed = (error instanceof Error ? error.message : String(error)).split('\n')[0];
      rows.push({ recipe, commit, failed });
    }
  }
  const full = rows[0].end?.cachePeak ?? Number.NaN;
  const overHalf = rows
    .filter(({ recipe, end }) => recipe.includes(`keep=${KEEP}`) && end && end.cachePeak > full / 2)
    .map(({ recipe }) => recipe);
  const results: Results = { model, tokens, steps: STEPS, rows, overHalf };
  console.log(blocks([show(results)], 'text'));
  console.log(`\nwritten to ${writeResult(NAME, run, results)}`);
}

/** Rows of the record, where it is of the same size. */
function recorded(model: string, tokens: number): readonly Row[] {
  if (!hasResult(NAME)) return [];
  const { run, results } = readRecord<Results>(NAME);
  const same = results.model === model && results.tokens === tokens;
  return same ? results.rows.map(row => ({ commit: run.commit, ...row })) : [];
}

/** Those of a method that are measured: its defaults, and a quarter kept. */
function recipesOf(method: Method): string[] {
  const keep = optionsOf(method).find(({ name }) => name === 'keep');
  if (!keep) return [method.name];
  const quarter = `${method.name}(keep=${KEEP})`;
  return keep.default === KEEP ? [quarter] : [method.name, quarter];
}

async function measure(
  recipe: string,
  { tokens, threads, profiles }: { tokens: number; threads: number; profiles: Map<string, unknown> },
): Promise<Row> {
  const { profile: kind } = methods.find(({ name }) => name === recipe.split('(')[0])!;
  // In a process of its own: calibration has a peak that is none of the method's.
  if (kind !== undefined && !profiles.has(kind)) {
    await using child = new Child('peers/cache.ts');
    await child.call('load', { path: flags.model, threads });
    profiles.set(kind, await child.call('makeProfile', { kind }));
  }
  await using child = new Child('peers/cache.ts');
  await child.call('load', { path: flags.model, threads });
  if (kind !== undefined) await child.call('setProfile', { kind, profile: profiles.get(kind) });
  const loaded = child.memory().now;
  const { tokens: given } = await child.call<{ tokens: number[] }>('text', { count: tokens - STEPS });
  const { cache: prompt } = await child.call<{ cache: Stats }>('prompt', { cache: recipe, tokens: given });
  const { cache: end } = await child.call<{ cache: Stats }>('more', { count: STEPS });
  return { recipe, prompt, end, resident: { peak: child.memory().peak, loaded } };
}

function show({ model, tokens, rows, overHalf }: Results): Block {
  const full = rows[0];
  const share = (bytes: number, of: number | undefined) => `${((100 * bytes) / (of ?? Number.NaN)).toFixed(1)} %`;
  const missed = overHalf.length > 0 ? `; over half at keep=${KEEP}: ${overHalf.join(', ')}` : '';
  return {
    caption: `Bytes at ${tokens} tokens (the last ${STEPS} decoded), ${model}, a fresh process each${missed}`,
    head: [
      '',
      'cache peak, MiB',
      'of full',
      'held after the prompt, MiB',
      'of full',
      'parked, MiB',
      'process peak, MiB',
    ],
    rows: rows.map(({ recipe, failed, prompt, end, resident }) =>
      failed !== undefined || !prompt || !end || !resident
        ? [recipe, 'failed', (failed ?? '').slice(0, 80)]
        : [
            recipe,
            mebibytes(end.cachePeak),
            share(end.cachePeak, full.end?.cachePeak),
            mebibytes(prompt.held),
            share(prompt.held, full.prompt?.held),
            end.parked > 0 ? mebibytes(end.parked) : '',
            mebibytes(resident.peak),
          ],
    ),
  };
}
