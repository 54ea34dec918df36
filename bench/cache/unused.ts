import { basename } from 'node:path';
import { alternate } from '../lib/alternate.ts';
import { Child } from '../lib/child.ts';
import { randomTokens } from '../lib/random-tokens.ts';
import { pairRatio, type Ratio } from '../lib/stats.ts';
import { type Block, digits } from '../lib/table.ts';
import { interval } from './decode.ts';

const PROMPT = 2048;
const DECODE = 64;

export interface UnusedResult {
  readonly model: string;
  readonly pairs: number;
  /** Sensor's counters after all requests, and after one with a recipe: the counters do count. */
  readonly counts: Readonly<Record<string, number>>;
  readonly used: Readonly<Record<string, number>>;
  /** `kv: full` over no `kv`. */
  readonly prefill: Ratio;
  readonly decode: Ratio;
}

/** What the full cache pays for methods that it does not use: requests with `kv: full` against requests that name none. */
export async function unusedCost(options: {
  readonly path: string;
  readonly pairs: number;
  readonly threads: number;
  readonly log: (text: string) => void;
}): Promise<UnusedResult> {
  const { path, pairs, threads, log } = options;
  await using child = new Child('peers/cache.ts');
  const { vocab } = await child.call<{ vocab: number }>('load', { path, threads });
  const run = (round: number, kv?: string) =>
    child.call<{ prefill: number; decode: number }>('request', {
      tokens: randomTokens(PROMPT, vocab, round + 1),
      decode: DECODE,
      ...(kv && { kv }),
    });
  for (const kv of [undefined, 'full']) await run(-1, kv);
  const samples = await alternate(
    [
      { name: 'full', run: round => run(round, 'full') },
      { name: 'none', run: round => run(round) },
    ],
    pairs,
    (name, round) => log(`unused, ${basename(path)}: pair ${round + 1} of ${pairs}, ${name}`),
  );
  const counts = await child.call<Record<string, number>>('counts');
  await run(0, 'snapkv(keep=0.25)');
  const used = await child.call<Record<string, number>>('counts');
  const of = (name: string, what: 'prefill' | 'decode') => samples.get(name)!.map(sample => sample[what]);
  return {
    model: basename(path),
    pairs,
    counts,
    used,
    prefill: pairRatio(of('full', 'prefill'), of('none', 'prefill')),
    decode: pairRatio(of('full', 'decode'), of('none', 'decode')),
  };
}

export function unusedBlock(results: readonly UnusedResult[]): Block {
  const total = (counts: Readonly<Record<string, number>>) => Object.values(counts).reduce((sum, n) => sum + n, 0);
  return {
    caption: `\`kv: full\` over no \`kv\`: prompts of ${PROMPT} tokens, ${DECODE} decoded, alternating pairs`,
    head: ['', 'pairs', 'signals computed', 'after one snapkv request', 'prefill', 'decode'],
    rows: results.map(({ model, pairs, counts, used, prefill, decode }) => [
      model,
      String(pairs),
      digits(total(counts)),
      digits(total(used)),
      interval(prefill),
      interval(decode),
    ]),
  };
}
