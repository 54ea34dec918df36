import { basename } from 'node:path';
import { alternate } from '../lib/alternate.ts';
import { Child } from '../lib/child.ts';
import { chosen } from '../lib/flags.ts';
import { randomTokens } from '../lib/random-tokens.ts';
import { median, type Ratio, ratio } from '../lib/stats.ts';
import { type Block, digits } from '../lib/table.ts';

/** What decoding is measured with; ours by cache settings (src/eval/cache-setting.ts). */
export const OURS = [
  'f32',
  'f16',
  'int8',
  'kivi(bits=2)',
  'kivi(bits=4)',
  'kivi(bits=8)',
  'snapkv(keep=0.25)',
  'snapkv(keep=0.25) + kivi(bits=2)',
];
export const THEIRS = ['llama.cpp f16', 'llama.cpp q8_0', 'llama.cpp q4_0'];
const EXACT = ['f32', 'f16'];

/** Steps of one burst: as many as a page has rows, so that each burst fills, and where it applies encodes, one page. */
const BURST = 64;

export interface DecodeOptions {
  readonly path: string;
  readonly context: number;
  readonly rounds: number;
  readonly threads: number;
  readonly only: string | undefined;
  readonly log: (text: string) => void;
}

export interface DecodeResult {
  readonly model: string;
  readonly context: number;
  readonly rounds: number;
  readonly burst: number;
  readonly rows: readonly DecodeRow[];
}

export interface DecodeRow {
  readonly name: string;
  /** Why there are no figures. */
  readonly failed?: string;
  /** Tokens a second: of whole bursts, one a round; and by the median step of all. */
  readonly rates: readonly number[];
  readonly median: number;
  readonly medianStep: number;
  readonly prefillMs: number;
  /** Bytes held after the prompt (ours). */
  readonly bytes?: number;
  /** To the faster of our f32 and f16, and to llama.cpp's best. */
  readonly toExact?: Ratio;
  readonly toTheirs?: Ratio;
}

interface Peer {
  readonly name: string;
  readonly child: Child;
  readonly prefillMs: number;
  readonly bytes?: number;
}

/**
 * Tokens a second after a prompt of `context` tokens. Each contender is a process that holds its prompt's cache; they decode
 * in alternating bursts, one at a time, from the same length on, each its own greedy text.
 */
export async function decodeRates(options: DecodeOptions): Promise<DecodeResult> {
  const { path, context, rounds, log } = options;
  await using stack = new AsyncDisposableStack();
  const peers: Peer[] = [];
  const failures = new Map<string, string>();
  const names = chosen([...OURS, ...THEIRS], name => name, options.only);
  for (const name of names) {
    log(`decode ${context}: prompt of ${name}`);
    try {
      peers.push(await begin(name, options, stack));
    } catch (error) {
      failures.set(name, message(error));
    }
  }
  const steps = new Map<string, number[]>(peers.map(({ name }) => [name, []]));
  const burst = async ({ name, child }: Peer): Promise<number> => {
    if (failures.has(name)) return Number.NaN;
    try {
      const made = (await child.call<{ steps: number[] }>('more', { count: BURST })).steps;
      steps.get(name)!.push(...made);
      return (made.length * 1000) / made.reduce((sum, step) => sum + step);
    } catch (error) {
      failures.set(name, message(error));
      return Number.NaN;
    }
  };
  // The first burst of each compiles and pages in.
  for (const peer of peers) await burst(peer);
  for (const made of steps.values()) made.length = 0;
  const samples = await alternate(
    peers.map(peer => ({ name: peer.name, run: () => burst(peer) })),
    rounds,
    (name, round) => log(`decode ${context}: round ${round + 1} of ${rounds}, ${name}`),
  );
  const good = peers.filter(({ name }) => !failures.has(name));
  const rates = new Map(good.map(({ name }) => [name, samples.get(name)!]));
  const exact = best(rates, EXACT);
  const theirs = best(rates, THEIRS);
  const rows = names.map((name): DecodeRow => {
    const peer = good.find(each => each.name === name);
    if (!peer) return { name, failed: failures.get(name)!, rates: [], median: NaN, medianStep: NaN, prefillMs: NaN };
    const own = rates.get(name)!;
    return {
      name,
      rates: own,
      median: median(own),
      medianStep: 1000 / median(steps.get(name)!),
      prefillMs: peer.prefillMs,
      ...(peer.bytes !== undefined && { bytes: peer.bytes }),
      ...(exact && OURS.includes(name) && { toExact: ratio(own, exact) }),
      ...(theirs && OURS.includes(name) && { toTheirs: ratio(own, theirs) }),
    };
  });
  return { model: basename(path), context, rounds, burst: BURST, rows };
}

async function begin(name: string, options: DecodeOptions, stack: AsyncDisposableStack): Promise<Peer> {
  const { path, context, rounds, threads } = options;
  const ours = OURS.includes(name);
  const child = stack.use(new Child(ours ? 'peers/cache.ts' : 'peers/llama.mjs'));
  const room = context + BURST * (rounds + 2);
  const cache = ours ? name : name.split(' ')[1];
  const { vocab } = await child.call<{ vocab: number }>('load', { path, threads, context: room, cache, flash: true });
  const tokens = randomTokens(context, vocab, context);
  if (!ours)
    return {
      name,
      child,
      prefillMs: (await child.call<{ prefill: number }>('generate', { tokens, decode: 1 })).prefill,
    };
  const { prefill, cache: stats } = await child.call<{ prefill: number; cache: { held: number } }>('prompt', {
    cache,
    tokens,
  });
  return { name, child, prefillMs: prefill, bytes: stats.held };
}

function best(rates: ReadonlyMap<string, number[]>, names: readonly string[]): number[] | undefined {
  const there = names.flatMap(name => (rates.has(name) ? [rates.get(name)!] : []));
  return there.sort((a, b) => median(b) - median(a))[0];
}

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error)).split('\n')[0];

export function decodeBlock({ model, context, rounds, rows }: DecodeResult): Block {
  return {
    caption: `Decode after ${context} tokens, ${model}, ${rounds} bursts of ${BURST} tokens each`,
    head: ['', 'tok/s', 'by median step', 'KV MiB', 'to the faster of our f32, f16', "to llama.cpp's best"],
    rows: rows.map(row =>
      row.failed !== undefined
        ? [row.name, 'failed', row.failed.slice(0, 80)]
        : [
            row.name,
            digits(row.median),
            digits(row.medianStep),
            row.bytes === undefined ? '' : digits(row.bytes / 2 ** 20),
            interval(row.toExact),
            interval(row.toTheirs),
          ],
    ),
  };
}

export function interval(ratio: Ratio | undefined): string {
  if (!ratio) return '';
  const { value, low, high } = ratio;
  return Number.isFinite(low) ? `${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]` : value.toFixed(3);
}
