// Kvasir's cache under a setting (src/eval/cache-setting.ts), as a process that speaks JSON lines (../lib/serve.ts).
import { setImmediate } from 'node:timers/promises';
import { calibrate } from '../../src/engine/calibrate/index.ts';
import { LayerPrefill } from '../../src/engine/layer-prefill.ts';
import type { LoadedModel } from '../../src/engine/loaded-model.ts';
import type { Run } from '../../src/engine/program/run.ts';
import { Request } from '../../src/engine/request.ts';
import { cacheSetting, openSequence } from '../../src/eval/cache-setting.ts';
import { bundledCorpus } from '../../src/eval/corpus.node.ts';
import { Feed } from '../../src/eval/feed.ts';
import { openModelForEval } from '../../src/eval/open.node.ts';
import { resident } from '../lib/memory.ts';
import { serveLines } from '../lib/serve.ts';

let opened: Awaited<ReturnType<typeof openModelForEval>> | null = null;
let feed: Feed | null = null;
/** Most likely after the feed's last token. */
let next = 0;

const model = (): LoadedModel => opened!.model;

async function load({ path, threads }: { path: string; threads: number }) {
  opened = await openModelForEval({ name: 'model', path }, { threads, maxWaiting: 1 });
  const { vocab, context } = model().info;
  return { vocab, context };
}

/** The beginning of the bundled texts in tokens: some methods look at what the text is. */
async function text({ count }: { count: number }) {
  const { tokenizer } = model();
  const tokens = tokenizer.encode((await bundledCorpus()).join('\n').slice(0, count * 8), { addBos: true });
  if (tokens.length < count) throw new Error(`the corpus gives ${tokens.length} tokens of ${count}`);
  return { tokens: tokens.slice(0, count) };
}

/** Milliseconds of a prompt under a setting. Its cache stays until the next prompt. */
async function prompt({ cache, tokens }: { cache: string; tokens: number[] }) {
  feed?.[Symbol.dispose]();
  feed = new Feed(model(), cacheSetting(cache));
  const begin = performance.now();
  await feed.prompt(tokens, 'last', choose);
  return { prefill: performance.now() - begin, cache: stats() };
}

/** Greedy steps after the prompt; milliseconds of each. What a recipe does when a page is full is part of a step. */
async function more({ count }: { count: number }) {
  const steps: number[] = [];
  for (let i = 0; i < count; i++) {
    const begin = performance.now();
    await feed!.push([next], 'last', choose);
    steps.push(performance.now() - begin);
  }
  return { steps, cache: stats() };
}

function choose(_position: number, logits: Float32Array): void {
  next = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[next]!) next = i;
}

/** Bytes of the feed's sequence, and of the model's whole cache. */
function stats() {
  const { held, peak, parked, bytes, tokens } = feed!.stats();
  const kept = tokens.reduce((sum, entries) => sum + entries, 0) / tokens.length;
  return { held, peak, parked, bytes, kept, cachePeak: model().cache.stats().peak };
}

/** A prompt layer by layer, from an empty cache: milliseconds of all of it, and of a recipe's decisions and actions within. */
async function layerPrefill({ cache, tokens }: { cache: string; tokens: number[] }) {
  const { sequence, run } = openSequence(model(), cacheSetting(cache, 'layer'));
  const clock = run && decisionsOf(run);
  const begin = performance.now();
  const prefill = new LayerPrefill(model().forward, sequence, tokens, 0, run);
  try {
    if (!run) sequence.reserve(tokens.length);
    while (!(await prefill.next()));
    await prefill.finish('last', (_work, _row, logits) => choose(0, logits));
    return { prefill: performance.now() - begin, decisions: clock?.ms ?? 0 };
  } finally {
    prefill.dispose();
    sequence.free();
  }
}

/** Times what a run does after each layer and at the end of the prompt. */
function decisionsOf(run: Run): { ms: number } {
  const clock = { ms: 0 };
  const settle = run.settle.bind(run);
  const endPrompt = run.endPrompt.bind(run);
  const timed = <T>(work: () => T): T => {
    const begin = performance.now();
    try {
      return work();
    } finally {
      clock.ms += performance.now() - begin;
    }
  };
  run.settle = (layer, rows) => timed(() => settle(layer, rows));
  run.endPrompt = () => timed(endPrompt);
  return clock;
}

/** A request through the scheduler; milliseconds to the first token and of the rest. `kv` absent: none is named. */
async function request({ tokens, decode, kv }: { tokens: number[]; decode: number; kv?: string }) {
  const { scheduler } = model();
  const options = { model: 'model', tokens, maxTokens: decode + 1, temperature: 0, ignoreEnd: true };
  const asked = new Request({
    options: { ...options, ...(kv !== undefined && { kv }) },
    prompt: tokens,
    maxTokens: decode + 1,
    session: null,
    program: model().program(kv),
    seed: 1,
    onDrain: () => {},
  });
  const begin = performance.now();
  scheduler.enqueue(asked);
  let first = 0;
  const reader = (async () => {
    for (let part = await asked.parts.next(); part; part = await asked.parts.next()) first ||= performance.now();
  })();
  while (!model().idle) {
    await scheduler.step();
    await setImmediate();
  }
  await reader;
  return { prefill: first - begin, decode: performance.now() - first };
}

/** Makes a profile; KVQuant reads the beginnings of the bundled texts. */
async function makeProfile({ kind }: { kind: string }) {
  const texts = await bundledCorpus();
  return calibrate(model(), kind, texts.map(text => text.slice(0, 20_000)).join('\n'));
}

await serveLines({
  load,
  text,
  prompt,
  more,
  stats,
  layerPrefill,
  request,
  makeProfile,
  setProfile: ({ kind, profile }: { kind: string; profile: unknown }) => model().setProfile(kind, profile),
  counts: () => model().forward.sensor.counts,
  memory: () => resident(),
});
(feed as Feed | null)?.[Symbol.dispose]();
await (opened as AsyncDisposable | null)?.[Symbol.asyncDispose]();
