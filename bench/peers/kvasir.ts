// Kvasir as a process that speaks JSON lines (../lib/serve.ts); the twin of llama.mjs.
import { Engine } from '../../src/engine/engine.ts';
import { nodePlatform } from '../../src/engine/platform.node.ts';
import type { EngineApi, LoadOptions } from '../../src/engine/types.ts';
import { cacheDir } from '../../src/model/hub/cache-dir.node.ts';
import { resident } from '../lib/memory.ts';
import { serveLines } from '../lib/serve.ts';

let engine: EngineApi | null = null;

interface LoadArguments extends Omit<LoadOptions, 'name'> {
  threads: number;
  context: number;
  /** Folder of repacked weights; an empty one makes this a first load. Default: the user's. */
  cacheDir?: string;
}

async function load({ threads, cacheDir: folder = cacheDir(), ...options }: LoadArguments) {
  const begin = performance.now();
  engine = new Engine(nodePlatform(), { threads, cacheDir: folder });
  const { vocab } = await engine.load({ ...options, name: 'model' });
  return { ms: performance.now() - begin, vocab };
}

/** Prompt to first token, then `decode` more, greedily, end tokens ignored. Milliseconds: `prefill`, and `steps` one a token. */
async function generate({ tokens, decode }: { tokens: number[]; decode: number }) {
  const made: number[] = [];
  const steps: number[] = [];
  let last = performance.now();
  let prefill = 0;
  const request = { model: 'model', tokens, maxTokens: decode + 1, temperature: 0, ignoreEnd: true };
  for await (const part of engine!.generate(request)) {
    const now = performance.now();
    if (made.length === 0) prefill = now - last;
    else steps.push(now - last);
    last = now;
    made.push(...part.tokens);
  }
  return { prefill, steps, tokens: made };
}

await serveLines({ load, generate, memory: () => resident() });
await (engine as EngineApi | null)?.dispose();
