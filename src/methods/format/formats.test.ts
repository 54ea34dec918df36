import { expect, test } from 'vitest';
import { calibrateKvquant } from '../calibrate/kvquant.ts';
import { plainModel, plainRandom } from '../testing.ts';
import type { Action, PromptLayer } from '../types.ts';
import { gear } from './gear.ts';
import { kivi } from './kivi.ts';
import { kvquant } from './kvquant.ts';
import { TrackedLayer } from './testing.ts';

const model = plainModel({ kvHeads: 2, headDim: 64 });
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);
const defaults = <T>(schema: { parse(x: unknown): T }, given: object = {}) => schema.parse(given);

/** The card, step 1: how many of T tokens are encoded. */
const keysDue = (tokens: number, residual: number) => tokens - (tokens % residual);
const valuesDue = (tokens: number, residual: number) => Math.floor(Math.max(0, tokens - residual) / 64) * 64;

test.each([0, 1, 63, 64, 65, 127, 128, 129, 191, 192, 256, 300, 640, 1000])(
  'kivi encodes what is due of %i tokens',
  n => {
    const policy = kivi.create(defaults(kivi.options), model);
    const layer = new TrackedLayer(model);
    layer.prompt(policy, n);
    for (const head of [0, 1]) {
      expect(layer.encodedPositions(head, 'k')).toEqual(upTo(keysDue(n, 128)));
      expect(layer.encodedPositions(head, 'v')).toEqual(upTo(valuesDue(n, 128)));
    }
  },
);

test('kivi: prompts cut anywhere and decoding end in the same pages, each element encoded once', () => {
  const random = plainRandom(3);
  const policy = kivi.create(defaults(kivi.options, { residual: 192 }), model);
  for (let round = 0; round < 20; round++) {
    const total = 256 + Math.floor(random() * 700);
    const whole = new TrackedLayer(model);
    whole.prompt(policy, total);
    const cut = new TrackedLayer(model);
    const first = Math.floor(random() * total);
    cut.prompt(policy, first);
    cut.decode(policy, Math.floor(random() * (total - first)));
    cut.prompt(policy, total - cut.seen);
    expect(cut.pages).toEqual(whole.pages);
    const keys = cut.encoded.map(({ head, plane, position }) => `${head} ${plane} ${position}`);
    expect(new Set(keys).size).toBe(keys.length);
  }
});

test('kivi decodes on: keys in bursts of the residual, values page by page, the newest always exact', () => {
  const policy = kivi.create(defaults(kivi.options), model);
  const layer = new TrackedLayer(model);
  layer.prompt(policy, 100);
  for (let n = 101; n < 700; n++) {
    layer.decode(policy, 1);
    if (n % 64 !== 0) continue;
    expect(layer.encodedPositions(0, 'k').length).toBe(keysDue(n, 128));
    expect(layer.encodedPositions(0, 'v').length).toBe(valuesDue(n, 128));
  }
});

test('kivi counts entries of each view: thinned heads differ, holes are packed', () => {
  const policy = kivi.create(defaults(kivi.options), model);
  const layer = new TrackedLayer(model);
  layer.prompt(policy, 1000, (head, position) => head === 0 || position % 3 === 0);
  expect(layer.encodedPositions(0, 'k').length).toBe(896);
  expect(layer.encodedPositions(1, 'k')).toEqual(upTo(256).map(i => 3 * i));
  expect(layer.encodedPositions(1, 'v').length).toBe(valuesDue(334, 128));

  const holed = new TrackedLayer(model);
  const none = { ...policy, decide: () => [] };
  holed.prompt(none, 400);
  for (let i = 0; i < 60; i++) holed.drop(1, 5 * i);
  holed.prompt(policy, 0);
  expect(holed.encodedPositions(1, 'k').length).toBeGreaterThanOrEqual(valuesDue(340, 128));
  expect(holed.encodedPositions(1, 'v').length).toBe(valuesDue(340, 128));
  expect(holed.pages[1]!.flatMap(page => page.positions)).toEqual(
    upTo(400).filter(position => !upTo(60).some(i => 6 * i === position)),
  );
});

test('kivi asks for keys along tokens and values along channels; groups must divide the head', () => {
  const layer = new TrackedLayer(model);
  layer.prompt(kivi.create(defaults(kivi.options, { bits: 4 }), model), 512);
  expect(layer.pages[0]![0]!.k).toEqual({ kind: 'scalar', parts: [{ bits: 4, along: 'token', group: 32 }] });
  expect(layer.pages[0]![0]!.v).toEqual({ kind: 'scalar', parts: [{ bits: 4, along: 'channel', group: 32 }] });
  const small = plainModel({ headDim: 8 });
  const tiny = new TrackedLayer(small);
  tiny.prompt(kivi.create(defaults(kivi.options), small), 512);
  expect(tiny.pages[0]![0]!.v).toMatchObject({ parts: [{ group: 8 }] });
  expect(() => kivi.create(defaults(kivi.options), plainModel({ headDim: 80 }))).toThrow(
    expect.objectContaining({ code: 'invalid_request', field: 'group', value: 32, allowed: [16] }),
  );
  expect(kivi.options.safeParse({ residual: 100 }).success).toBe(false);
});

test.each([0, 1, 63, 64, 65, 129, 300])('gear encodes whole buffers of %i tokens, both planes', n => {
  const policy = gear.create(defaults(gear.options), model);
  const layer = new TrackedLayer(model);
  layer.prompt(policy, n);
  layer.decode(policy, 70);
  const due = n + 70 - ((n + 70) % 64);
  expect(layer.encodedPositions(0, 'k')).toEqual(upTo(due));
  expect(layer.encodedPositions(1, 'v')).toEqual(upTo(due));
});

test('gear repairs: outliers along the groups, low rank; GEAR-L leaves outliers out', () => {
  const layer = new TrackedLayer(model);
  layer.prompt(gear.create(defaults(gear.options), model), 64);
  const lowRank = { rank: 2, rounds: 3 };
  expect(layer.pages[0]).toEqual([
    {
      positions: upTo(64),
      k: {
        kind: 'scalar',
        parts: [{ bits: 2, along: 'token', group: 64 }],
        outliers: { share: 0.02, per: 'channel' },
        lowRank,
      },
      v: {
        kind: 'scalar',
        parts: [{ bits: 2, along: 'channel', group: 64 }],
        outliers: { share: 0.02, per: 'token' },
        lowRank,
      },
    },
  ]);
  const light = new TrackedLayer(model);
  light.prompt(gear.create(defaults(gear.options, { outliers: 0 }), model), 64);
  expect(light.pages[0]![0]!.k).not.toHaveProperty('outliers');
  expect(light.pages[0]![0]!.k).toHaveProperty('lowRank');
});

test('kvquant: sinks stay, ranges of the profile come with the keys, a page at a time', () => {
  const random = plainRandom(5);
  const rows = () => Float32Array.from({ length: 200 * 128 }, () => random() * 4 - 1);
  const { kvHeads, headDim, fingerprint } = model;
  const profile = calibrateKvquant(
    [0, 1].map(() => ({ k: rows(), v: rows() })),
    { kvHeads, headDim, fingerprint },
  );
  for (const [sinks, from] of [
    [0, 0],
    [1, 64],
    [64, 64],
    [65, 128],
  ] as const) {
    const policy = kvquant.create(defaults(kvquant.options, { sinks, bits: 2 }), model, profile);
    expect(policy.pages).toEqual({ keysUnrotated: true });
    const layer = new TrackedLayer(model);
    layer.prompt(policy, 150);
    layer.decode(policy, 120);
    expect(layer.encodedPositions(1, 'k')).toEqual(upTo(256).slice(from));
    expect(layer.encodedPositions(0, 'v')).toEqual(upTo(256).slice(from));
  }
  for (const n of [0, 1, 63, 64, 65]) {
    const layer = new TrackedLayer(model);
    layer.prompt(kvquant.create(defaults(kvquant.options, { sinks: 0 }), model, profile), n);
    for (const plane of ['k', 'v'] as const) expect(layer.encodedPositions(1, plane)).toEqual(upTo(n < 64 ? 0 : 64));
  }
  const at = new TrackedLayer(model);
  const policy = kvquant.create(defaults(kvquant.options, { sinks: 0 }), model, profile);
  const actions: Action[] = [];
  const watch = (layer: PromptLayer) => {
    actions.push(...policy.decide!(layer));
    return [];
  };
  at.prompt({ ...policy, decide: watch }, 64, undefined, 1);
  const { least, greatest } = profile.layers[1]!.k;
  const scale = Float32Array.from({ length: 64 }, (_, c) => (greatest[64 + c]! - least[64 + c]!) / 2);
  const offset = Float32Array.from({ length: 64 }, (_, c) => (greatest[64 + c]! + least[64 + c]!) / 2);
  expect(actions[1]).toMatchObject({
    head: 1,
    layer: 1,
    sharedK: { values: Float32Array.of(...scale, ...offset) },
    k: { parts: [{ bits: 3, along: 'token', scope: 'shared', lut: profile.layers[1]!.k.luts[3], lutRange: [-1, 1] }] },
    v: { parts: [{ bits: 3, along: 'channel', lut: profile.layers[1]!.v.luts[3] }], outliers: { per: 'token' } },
  });
  expect(actions[1]).toMatchObject({ k: { outliers: { share: 0.015 } }, v: { outliers: { share: 0.01 } } });
  expect(actions[1]).not.toHaveProperty('v.parts.0.borders');
  const two = new TrackedLayer(model);
  two.prompt(kvquant.create(defaults(kvquant.options, { sinks: 0, bits: 2 }), model, profile), 64, undefined, 1);
  for (const plane of ['k', 'v'] as const)
    expect(two.pages[1]![0]![plane]).toMatchObject({ parts: [{ borders: profile.layers[1]![plane].borders[2] }] });
  // Its ranges are of one share of outliers.
  kvquant.create(defaults(kvquant.options, { outliers: 0.01 }), model, profile);
  for (const outliers of [0, 0.02])
    expect(() => kvquant.create(defaults(kvquant.options, { outliers }), model, profile)).toThrow(
      expect.objectContaining({ code: 'invalid_request', field: 'outliers', value: outliers, allowed: [0.01] }),
    );
});
