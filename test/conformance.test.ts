import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Kernels } from '../src/backend/types.ts';
import { calibrate } from '../src/engine/calibrate/index.ts';
import type { LoadedModel } from '../src/engine/loaded-model.ts';
import { runForced } from '../src/engine/score.ts';
import { METHODS } from '../src/methods/index.ts';
import type { Method } from '../src/methods/types.ts';
import { testPath } from './golden.ts';
import { BUNDLED, openKernels, openLoaded } from './models.ts';
import { force, stepTogether, Written } from './recipes.ts';

/**
 * Every method of the registry on every model, in every situation in which a cache is used. A method joins by being
 * registered: its defaults are used, with a budget that the short prompts exceed.
 */
const MODELS = [
  { name: 'kvasir-mini', path: BUNDLED, mode: 'fast', prompt: 450 },
  { name: 'tiny GQA', path: testPath('models/qwen3'), mode: 'exact', prompt: 300 },
  { name: 'tiny MHA', path: testPath('models/llama-linear'), mode: 'exact', prompt: 300 },
] as const;

/** Settings that make a method act on prompts of this size and on models of two layers. */
const SMALL: Readonly<Record<string, string>> = {
  'streaming-llm': 'budget=96',
  h2o: 'keep=0.4',
  tova: 'budget=96',
  treekv: 'budget=96',
  cake: 'budget=96',
  prefixkv: 'keep=0.4, search=prompt',
  epicache: 'keep=0.4, block=128, segment=32',
  fastkv: 'keep=0.4, layer=0',
  kivi: 'residual=64',
  rotatekv: 'group=32',
  vidkv: 'buffer=64, protect=0.25',
  zipcache: 'buffer=64',
  minicache: 'start=0',
  ems: 'keep=0.4, theta=0.1',
  kvmerger: 'epsilon=0.3, skipFirst=0, skipLast=0',
  xkv: 'group=2, ratioK=0.5, ratioV=0.5, always=true',
  louiskv: 'budget=64, recent=32, place=file',
  leoam: 'most=64, recent=32, resident=96',
  actqkv: 'block=16, blocks=3, least=2, most=5, sinks=16, local=64, window=128, warmup=1, history=4, resident=96',
  mpcache: 'keep=0.6, size=8',
};
const WRITTEN = 80;
/** Any text will do: what is checked here is not quality. */
const CALIBRATION_TEXT = Array.from({ length: 3000 }, (_, i) => `${(i * 7919) % 1000} `).join('');

/** What makes a method the full cache: everything kept, full rank, or nothing old enough to be stored otherwise. */
const NEUTRAL: Readonly<Record<string, string>> = {
  fastkv: 'keep=1, rate=1',
  kvmerger: 'epsilon=1, skipFirst=0, skipLast=0',
  minicache: 'start=1',
  xkv: 'group=2, ratioK=1, ratioV=1, always=true',
  'razor-attention': 'minimum=4096',
  louiskv: 'budget=4096, tau=1',
  leoam: 'share=1, earlyShare=1, most=4096',
  actqkv: 'blocks=4096, most=4096, sinks=16, local=64, window=128',
  mpcache: 'keep=1, coarse=1, fine=1',
  kivi: 'residual=1024',
  gear: 'buffer=1024',
  kvquant: 'sinks=1024',
  kvtuner: 'pairs="k16v16"',
  rotatekv: 'buffer=1024',
  vidkv: 'buffer=1024',
  zipcache: 'buffer=1024',
  mikv: 'important=1',
};

const methods: readonly Method[] = METHODS.filter(method => method.name !== 'full');
const hasKeep = (method: Method) => 'keep' in ((method.options as { shape?: object }).shape ?? {});
const recipeOf = (method: Method): string => {
  const small = SMALL[method.name];
  if (small !== undefined) return `${method.name}(${small})`;
  return hasKeep(method) ? `${method.name}(keep=0.4)` : method.name;
};
const neutralOf = (method: Method) => `${method.name}(${NEUTRAL[method.name] ?? 'keep=1'})`;

let kernels: Kernels;
beforeAll(async () => {
  kernels = await openKernels(2);
});
afterAll(() => kernels.dispose());

describe.each(MODELS)('$name', ({ path, mode, prompt }) => {
  let model: LoadedModel;
  let small: LoadedModel;
  const tokens = (count: number, salt: number) => {
    const { vocab } = model.info;
    return Array.from({ length: count }, (_, i) => 3 + (((i * 7919 + salt * 104729) ^ (i >> 3)) % (vocab - 4)));
  };
  beforeAll(async () => {
    model = await openLoaded(kernels, path, { mode, tile: 256, deterministic: true });
    small = await openLoaded(kernels, path, { mode, tile: 63, deterministic: true });
    for (const { profile } of methods) {
      if (profile === undefined) continue;
      small.setProfile(profile, await calibrate(model, profile, CALIBRATION_TEXT));
    }
  }, 120_000);
  afterAll(async () => {
    await model.dispose();
    await small.dispose();
  });

  test.each(methods.map(method => [method.name, method] as const))('%s', async (_, method) => {
    const kv = recipeOf(method);
    const [first, second] = [tokens(prompt, 1), tokens(70, 2)];
    const written = tokens(WRITTEN, 3);

    using one = new Written(model, kv);
    const afterPrompt = await one.prompt(first);
    const kept = snapshot(one);
    using fork = one.fork();
    using other = one.fork();
    const alone = await force(one, written);
    for (const logits of [afterPrompt, ...alone]) expect(logits.every(Number.isFinite)).toBe(true);
    checkPositions(one, method);
    checkBytes(one);

    // In tiles of another size: the same entries, the same answers.
    using tiles = new Written(small, kv);
    expect(difference(await tiles.prompt(first), afterPrompt)).toBe(0);
    expect(snapshot(tiles)).toEqual(kept);

    // A fork, beside another fork and a stranger that write other things.
    using stranger = new Written(model, kv);
    await stranger.prompt(second);
    for (const [i, token] of written.slice(0, 20).entries()) {
      const [ours] = await stepTogether([
        { at: fork, token },
        { at: stranger, token: written[(i * 5) % WRITTEN]! },
        { at: other, token: written[WRITTEN - 1 - i]! },
      ]);
      expect(difference(ours!, alone[i]!)).toBe(0);
    }

    // A second turn.
    const turned = await one.prompt(second);
    expect(turned.every(Number.isFinite)).toBe(true);
    checkPositions(one, method);
    checkBytes(one);
  });

  test.each(methods.map(method => [neutralOf(method)]))('%s is the full cache, in a second prompt too', async kv => {
    const parts = [tokens(prompt, 1), tokens(70, 2), tokens(20, 3)] as const;
    const given = parts.flat();
    const full: Float32Array[] = [];
    const sequence = model.cache.create({ owner: 'test', pages: { formatK: 'f32', formatV: 'f32' } });
    await runForced(model.forward, sequence, given, 'layer', prompt - 1, (work, row, logits) => {
      full[work.position + row] = logits.slice();
    });
    sequence.free();
    using neutral = new Written(model, kv);
    const first = await neutral.prompt(parts[0]);
    using forked = neutral.fork();
    const steps = await force(forked, parts[1].slice(0, 20));
    for (const [i, row] of [first, ...steps].entries())
      expect(difference(row, full[prompt - 1 + i]!)).toBeLessThan(2e-2);
    const second = [await neutral.prompt(parts[1]), ...(await force(neutral, parts[2]))];
    for (const [i, row] of second.entries()) expect(difference(row, full[prompt + 69 + i]!)).toBeLessThan(2e-2);
  });
});

function eachView(written: Written, use: (slot: number, head: number) => void): void {
  const { slots, kvHeads } = written.model.cache.shape;
  for (let slot = 0; slot < slots; slot++) for (let head = 0; head < kvHeads; head++) use(slot, head);
}

/** Positions by view, as text: a difference is told without comparing arrays element by element. */
function snapshot(written: Written): string[] {
  const views: string[] = [];
  eachView(written, (slot, head) => views.push(written.sequence.positions(slot, head).join(' ')));
  return views;
}

/** Greatest difference of two rows of logits. */
function difference(a: Float32Array, b: Float32Array): number {
  let most = 0;
  for (let i = 0; i < b.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!));
  return most;
}

/** No token twice, none that has not been seen; what is renumbered counts on without a gap. */
function checkPositions(written: Written, method: Method): void {
  const { seen } = written.run;
  eachView(written, (slot, head) => {
    const positions = written.sequence.positions(slot, head);
    expect(positions.length).toBeGreaterThan(0);
    expect(new Set(positions).size).toBe(positions.length);
    expect(Math.max(...positions)).toBeLessThan(seen);
    expect(Math.min(...positions)).toBeGreaterThanOrEqual(0);
    if (method.traits.renumbers) expect(Math.max(...positions)).toBeLessThan(seen);
  });
}

/** What the sequence says it holds is what its parts come to, and no view has pages it does not need. */
function checkBytes(written: Written): void {
  const { held, bytes } = written.sequence.stats();
  expect(Object.values(bytes).reduce((sum, part) => sum + part, 0)).toBe(held);
  eachView(written, (slot, head) => {
    const entries = written.sequence.entries(slot, head);
    expect(written.sequence.refCount(slot, head)).toBeLessThanOrEqual(2 * Math.ceil(entries / 64) + 4);
  });
}
