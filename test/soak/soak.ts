/**
 * npm run soak -- [--rounds 10] [--model models/kvasir-mini.gguf] [--seed 1]
 *
 * Rounds of 100 requests of all kinds, several at once: long and short prompts, page formats, several answers, sessions,
 * layer-major prefill, readers that leave and signals that abort. After each round the caches must be empty, and resident
 * memory must not keep growing. Exits 1 where they are not, or it does.
 */
import { parseArgs } from 'node:util';
import { metadata } from '../../bench/lib/metadata.ts';
import { writeResult } from '../../bench/lib/result.ts';
import { median, uniform } from '../../bench/lib/stats.ts';
import { createEngineThread } from '../../src/engine/index.ts';
import type { GenerateRequest } from '../../src/engine/types.ts';
import { KvasirError } from '../../src/errors.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '10' },
    model: { type: 'string', default: 'models/kvasir-mini.gguf' },
    seed: { type: 'string', default: '1' },
  },
});
const REQUESTS = 100;
const AT_ONCE = 6;
/** Growth of resident memory from the rounds after warm-up to the last ones that counts as a leak. */
const MOST_GROWTH = 0.05;

const random = uniform(Number(values.seed));
const below = (n: number) => Math.floor(random() * n);
const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;

const engine = await createEngineThread({ threads: 2, cacheLimit: 256 * 2 ** 20 });
const { vocab } = await engine.load({ name: 'model', path: values.model });
const empty = (await engine.stats()).cacheBytes;
const sessions = await Promise.all(Array.from({ length: 3 }, () => engine.openSession('model')));
const busy = new Set<string>();

type Outcome = 'finished' | 'left' | 'aborted' | 'refused';

async function request(): Promise<Outcome> {
  const session = random() < 0.2 ? sessions.find(id => !busy.has(id)) : undefined;
  const options: GenerateRequest = {
    model: 'model',
    tokens: Array.from({ length: 1 + below(random() < 0.1 ? 1500 : 200) }, () => below(vocab)),
    maxTokens: 1 + below(40),
    temperature: pick([0, 0.8, 1.5]),
    cache: pick(['f32', 'f16', 'int8'] as const),
    prefill: pick(['token', 'layer'] as const),
    stop: random() < 0.3 ? [' the', '\n\n'] : [],
    ...(random() < 0.2 && { logprobs: 3 }),
    ...(session ? { session } : { n: 1 + below(3) }),
  };
  const abort = new AbortController();
  const leaveAfter = random() < 0.2 ? 1 + below(10) : Number.POSITIVE_INFINITY;
  const timer = random() < 0.2 ? setTimeout(() => abort.abort(), below(400)) : undefined;
  if (session) busy.add(session);
  let parts = 0;
  try {
    for await (const _ of engine.generate(options, abort.signal)) if (++parts >= leaveAfter) return 'left';
    return 'finished';
  } catch (error) {
    if (!(error instanceof KvasirError) || !['aborted', 'kv_cache_full'].includes(error.code)) throw error;
    return error.code === 'aborted' ? 'aborted' : 'refused';
  } finally {
    clearTimeout(timer);
    if (session) busy.delete(session);
  }
}

async function round() {
  const outcomes: Record<Outcome, number> = { finished: 0, left: 0, aborted: 0, refused: 0 };
  let left = REQUESTS;
  const worker = async () => {
    while (left-- > 0) outcomes[await request()]++;
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  for (const session of sessions.splice(0)) await engine.closeSession(session);
  while ((await engine.stats()).running > 0) await new Promise(resolve => setTimeout(resolve, 10));
  const { cacheBytes } = await engine.stats();
  sessions.push(...(await Promise.all(Array.from({ length: 3 }, () => engine.openSession('model')))));
  return { outcomes, cacheBytes: cacheBytes - empty, resident: process.memoryUsage.rss() };
}

const rounds = [];
for (let i = 0; i < Number(values.rounds); i++) {
  const result = await round();
  rounds.push(result);
  const { outcomes, cacheBytes, resident } = result;
  console.log(
    `round ${i + 1}: ${JSON.stringify(outcomes)}, ${cacheBytes} cache bytes left, ${(resident / 2 ** 20).toFixed(0)} MiB resident`,
  );
}
await engine.dispose();
const third = Math.max(1, Math.floor(rounds.length / 3));
const resident = rounds.map(r => r.resident);
const growth = median(resident.slice(-third)) / median(resident.slice(third, 2 * third)) - 1;
console.log(`resident memory of the last third against the middle third: ${(growth * 100).toFixed(1)} %`);
console.log(`written to ${writeResult('soak', metadata(), { rounds, growth })}`);
const kept = rounds.some(r => r.cacheBytes !== 0);
if (kept || (rounds.length >= 6 && growth > MOST_GROWTH)) {
  console.error(kept ? 'cache bytes were left behind' : 'resident memory keeps growing');
  process.exitCode = 1;
}
