import { expect, test } from 'vitest';
import { KvasirError } from '../errors.ts';
import { calibrateKvquant } from './calibrate/kvquant.ts';
import { type KvquantProfile, parseKvquantProfile, parseRazorProfile } from './profiles.ts';
import { plainModel, plainRandom } from './testing.ts';

const model = plainModel({ layers: 2, kvHeads: 2, headDim: 8 });
const random = plainRandom(1);
const rows = () => Float32Array.from({ length: 40 * 16 }, () => random() - 0.5);
const profile = calibrateKvquant(
  [0, 1].map(() => ({ k: rows(), v: rows() })),
  model,
);

function refused(run: () => unknown): KvasirError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(KvasirError);
    return error as KvasirError;
  }
  throw new Error('Taken.');
}

type Mutable<T> = { -readonly [K in keyof T]: Mutable<T[K]> };
const broken = (change: (copy: Mutable<KvquantProfile>) => void) => {
  const copy = structuredClone(profile);
  change(copy);
  return refused(() => parseKvquantProfile(copy, model));
};

test('a missing profile is asked for by its kind', () => {
  expect(refused(() => parseKvquantProfile(undefined, model))).toMatchObject({
    code: 'invalid_request',
    field: 'profile',
    message: expect.stringContaining('kvasir calibrate kvquant --model'),
    allowed: expect.stringContaining('kvquant'),
  });
  expect(refused(() => parseRazorProfile(null, model)).allowed).toContain('razor-attention');
});

test('a profile that does not hold together is refused by its field', () => {
  expect(broken(p => (p.fingerprint = 'other'))).toMatchObject({ field: 'profile.fingerprint', value: 'other' });
  expect(broken(p => p.layers.pop())).toMatchObject({ field: 'profile.layers', allowed: '2 layers' });
  expect(broken(p => (p.kind = 'razor-attention' as never)).field).toBe('profile.kind');
  expect(broken(p => p.layers[1]!.k.least.pop())).toMatchObject({ field: 'profile.layers.1.k.least' });
  expect(broken(p => (p.layers[0]!.k.greatest[3] = -9)).field).toBe('profile.layers.0.k.greatest.3');
  expect(broken(p => (p.layers[0]!.k.least[3] = Number.NaN)).field).toBe('profile.layers.0.k.least.3');
  expect(broken(p => p.layers[1]!.v.luts[2].reverse()).field).toBe('profile.layers.1.v.luts.2');
  expect(broken(p => p.layers[1]!.v.borders[2].reverse()).field).toBe('profile.layers.1.v.borders.2');
  expect(broken(p => p.layers[1]!.v.luts[4].pop()).field).toBe('profile.layers.1.v.luts.4');
  expect(broken(p => (p.outliers = 0.5))).toMatchObject({ field: 'profile.outliers', value: 0.5 });
  expect(refused(() => parseKvquantProfile({ ...profile, extra: 1 }, model)).field).toBe('profile');
  expect(refused(() => parseKvquantProfile('kvquant', model)).field).toBe('profile');
});

test('retrieval heads must be heads of the model, ascending', () => {
  const of = (retrieval: unknown) => ({ kind: 'razor-attention', fingerprint: 'plain', retrieval });
  expect(parseRazorProfile(of([[], [0, 1]]), model).retrieval).toEqual([[], [0, 1]]);
  for (const [retrieval, field] of [
    [[[2], []], 'profile.retrieval.0'],
    [[[], [1, 0]], 'profile.retrieval.1'],
    [[[], [1, 1]], 'profile.retrieval.1'],
    [[[]], 'profile.retrieval'],
    [[[], [0.5]], 'profile.retrieval.1.0'],
  ] as const) {
    expect(refused(() => parseRazorProfile(of(retrieval), model)).field).toBe(field);
  }
});
