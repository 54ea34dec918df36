/**
 * Makes test/golden/llama-smollm2.json: what llama.cpp gives at each of 128 forced tokens after each of 20 prompts.
 * The forced tokens are sampled once from llama.cpp itself (temperature 0.8), which leaves more near ties than its greedy path would.
 *
 *   npm ci --prefix bench/peers
 *   python test/parity-llama/make_f32.py SmolLM2-135M-Instruct.Q4_1.gguf smollm2-f32.gguf
 *   node test/parity-llama/make.ts SmolLM2-135M-Instruct.Q4_1.gguf smollm2-f32.gguf
 */
import { createHash } from 'node:crypto';
import { createReadStream, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { Child } from '../../bench/lib/child.ts';
import { agreement, type LlamaCase, type LlamaGolden, type TopTwo } from './golden.ts';
import { PROMPTS } from './prompts.ts';

const FORCED = 128;
const SETTINGS = { threads: 2, context: 1024, cache: 'f32', flash: false };

const [path, f32Path] = process.argv.slice(2);
if (!path || !f32Path) throw new Error('usage: node test/parity-llama/make.ts <Q4_1.gguf> <the same as F32.gguf>');
const hash = createHash('sha256');
await pipeline(createReadStream(path), hash);

await using native = new Child('peers/llama.mjs');
const { version } = await native.call<{ version: string }>('load', { path, batch: 512, ...SETTINGS });
const system = await native.call<string>('system');
await using single = new Child('peers/llama.mjs');
await single.call('load', { path, batch: 1, ...SETTINGS });
await using f32 = new Child('peers/llama.mjs');
await f32.call('load', { path: f32Path, batch: 512, ...SETTINGS });

const cases: LlamaCase[] = [];
for (const [index, text] of PROMPTS.entries()) {
  const prompt = await native.call<number[]>('tokenize', { text, special: true });
  const { tokens: forced } = await native.call<{ tokens: number[] }>('generate', {
    tokens: prompt,
    decode: FORCED - 1,
    temperature: 0.8,
    seed: index + 1,
  });
  cases.push({
    prompt,
    forced,
    f32: await topTwo(f32, prompt, forced),
    native: await topTwo(native, prompt, forced),
    nativeSingle: (await topTwo(single, prompt, forced)).map(([best]) => best),
  });
  console.log(`${index + 1}/${PROMPTS.length}`);
}

const reference = cases.flatMap(each => each.native);
for (const [name, best] of [
  ['native, one token a call', cases.flatMap(each => each.nativeSingle)],
  ['f32', cases.flatMap(each => each.f32.map(([id]) => id))],
] as const) {
  const { share, gaps } = agreement(best, reference);
  console.log(
    `${name} against native: ${(100 * share).toFixed(2)} % equal, ${gaps.filter(gap => gap > 0.1).length} beyond 0.1`,
  );
}

const golden: LlamaGolden = {
  model: { file: basename(path), sha256: hash.digest('hex') },
  peer: { version, system: system.trim(), batch: 512, ...SETTINGS },
  cases,
};
const lines = cases.map(each => `  ${JSON.stringify(each)}`).join(',\n');
const head = JSON.stringify({ model: golden.model, peer: golden.peer }).slice(0, -1);
writeFileSync(new URL('../golden/llama-smollm2.json', import.meta.url), `${head},"cases":[\n${lines}\n]}\n`);

async function topTwo(peer: Child, prompt: readonly number[], forced: readonly number[]): Promise<TopTwo[]> {
  const places = await peer.call<[number, number][][]>('force', { prompt, continuation: forced, top: 2 });
  if (places.length !== forced.length) throw new Error(`${places.length} places of ${forced.length}`);
  return places.map(([[a, p], [b, q]]) => [a, b, round(p), round(q)]);
}

function round(value: number): number {
  return Math.round(value * 1e4) / 1e4;
}
