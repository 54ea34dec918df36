// llama.cpp through node-llama-cpp, as a process that speaks JSON lines (../lib/serve.ts). CPU only, from the prebuilt binary.
process.env.NODE_LLAMA_CPP_SKIP_DOWNLOAD = 'true';

import { readFileSync } from 'node:fs';
import { resident } from '../lib/memory.ts';
import { serveLines } from '../lib/serve.ts';

const { getLlama, LlamaLogLevel } = await import('node-llama-cpp');
const peer = JSON.parse(readFileSync(new URL('node_modules/node-llama-cpp/package.json', import.meta.url), 'utf8'));

let llama;
let model;
let context;
let sequence;
let loaded;
/** Made last, not in the cache yet. */
let pending;

/** The defaults are its best settings measured: a batch of 2048 gains 1 % of prefill for 12 % more memory, one of 128 loses a fifth. */
async function load({ path, threads = 2, context: contextSize = 4352, batch = 512, cache = 'f16', flash = true }) {
  const begin = performance.now();
  llama ??= await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    usePrebuiltBinaries: true,
    progressLogs: false,
    maxThreads: threads,
    logLevel: LlamaLogLevel.error,
  });
  model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
  context = await model.createContext({
    sequences: 1,
    contextSize,
    batchSize: batch,
    threads: { ideal: threads, min: threads },
    flashAttention: flash,
    experimentalKvCacheKeyType: cache.toUpperCase(),
    experimentalKvCacheValueType: cache.toUpperCase(),
  });
  sequence = context.getSequence();
  loaded = { path, threads, contextSize, batch, cache, flash };
  return {
    ms: performance.now() - begin,
    vocab: model.fileInfo.metadata.tokenizer.ggml.tokens.length,
    trained: model.trainContextSize,
    context: context.contextSize,
    threads: context.currentThreads,
    version: `node-llama-cpp ${peer.version}`,
    settings: { batch, cache, flash: context.flashAttention },
  };
}

/** Prompt to first token, then `decode` more tokens, greedily by default, end tokens ignored. Milliseconds: `prefill`, and `steps` one a token. */
async function generate({ tokens, decode, temperature = 0, seed = 1 }) {
  await sequence.clearHistory();
  const made = [];
  const steps = [];
  let last = performance.now();
  let prefill = 0;
  for await (const token of sequence.evaluate(tokens, { temperature, seed, topK: 0, topP: 1, yieldEogToken: true })) {
    const now = performance.now();
    if (made.length === 0) prefill = now - last;
    else steps.push(now - last);
    last = now;
    made.push(token);
    if (made.length > decode) break;
  }
  if (made.length !== decode + 1) throw new Error(`asked for ${decode + 1} tokens, got ${made.length}`);
  pending = made.at(-1);
  return { prefill, steps, tokens: made };
}

/** `count` more tokens after those of `generate`, the cache kept; milliseconds of each. */
async function more({ count }) {
  const steps = [];
  let last = performance.now();
  for await (const token of sequence.evaluate([pending], { temperature: 0, topK: 0, topP: 1, yieldEogToken: true })) {
    const now = performance.now();
    steps.push(now - last);
    last = now;
    pending = token;
    if (steps.length === count) break;
  }
  if (steps.length !== count) throw new Error(`asked for ${count} tokens, got ${steps.length}`);
  return { steps };
}

/**
 * Forced decoding: after `prompt`, each of `continuation` is fed whatever the model would have said.
 * Gives `top` alternatives [token, natural log of its probability] for each place, best first; place i predicts continuation[i].
 */
async function force({ prompt, continuation, top = 2 }) {
  await sequence.clearHistory();
  const ask = token => [
    token,
    { generateNext: { probabilities: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } } },
  ];
  const input = [...prompt.slice(0, -1), ask(prompt.at(-1)), ...continuation.slice(0, -1).map(ask)];
  const outputs = await sequence.controlledEvaluate(input);
  return outputs
    .filter(output => output?.next?.probabilities)
    .map(output => {
      const best = [];
      for (const [token, probability] of output.next.probabilities) {
        best.push([token, Math.log(probability)]);
        if (best.length === top) break;
      }
      return best;
    });
}

async function unload() {
  await context?.dispose();
  await model?.dispose();
  context = model = sequence = loaded = undefined;
}

await serveLines({
  load,
  generate,
  more,
  force,
  unload,
  tokenize: ({ text, special = false }) => [...model.tokenize(text, special)],
  memory: () => resident(),
  settings: () => loaded,
  system: () => llama.systemInfo,
});
await unload();
await llama?.dispose();
