import { z } from 'zod';
import { KvasirError } from '../errors.ts';
import type { ModelShape } from './types.ts';

/**
 * Profile files: what a method must know of a model before it can serve it (head profiles, calibration). JSON, bound to the
 * weights by `fingerprint`; made by src/methods/calibrate.
 */

const finite = z.number();
/** By width of a code: 2^bits strictly ascending values; 1 and -1 are the ends of a range. */
const luts = z.strictObject({
  2: z.array(finite).length(4),
  3: z.array(finite).length(8),
  4: z.array(finite).length(16),
});

/** Where codes of the codebook change, if not half way between its values. */
const borders = z.strictObject({ 2: z.array(finite).length(3) });

const kvquant = z.strictObject({
  kind: z.literal('kvquant'),
  fingerprint: z.string().min(1),
  /** Share of elements outside of the ranges, both sides together. */
  outliers: z.number().min(0).max(0.25),
  layers: z.array(
    z.strictObject({
      /** Keys before RoPE: least and greatest inlier of each channel (head by head), and codebooks. */
      k: z.strictObject({ least: z.array(finite), greatest: z.array(finite), luts, borders }),
      v: z.strictObject({ luts, borders }),
    }),
  ),
});

const razor = z.strictObject({
  kind: z.literal('razor-attention'),
  fingerprint: z.string().min(1),
  /** KV heads by layer, ascending, that keep all entries. */
  retrieval: z.array(z.array(z.int().min(0))),
});

const share = z.number().min(0).max(1);
const prefix = z.strictObject({
  kind: z.literal('prefixkv'),
  fingerprint: z.string().min(1),
  /** Shares that all layers together keep, ascending. */
  shares: z.array(z.number().gt(0).lt(1)).min(1),
  /** What each layer then keeps, by sums of attention and by averages: one number a share. */
  layers: z.array(z.strictObject({ sum: z.array(share), average: z.array(share) })),
});

const rotate = z.strictObject({
  kind: z.literal('rotatekv'),
  fingerprint: z.string().min(1),
  /** Mean of each channel of keys before RoPE, head by head. */
  layers: z.array(z.strictObject({ mean: z.array(finite) })),
});

const epicache = z.strictObject({
  kind: z.literal('epicache'),
  fingerprint: z.string().min(1),
  /** Mean cosine of a layer's keys of one text, seen whole and seen through a window of blocks. */
  layers: z.array(z.strictObject({ similarity: z.number().min(-1).max(1) })),
});

export type KvquantProfile = z.infer<typeof kvquant>;
export type RazorProfile = z.infer<typeof razor>;
export type PrefixProfile = z.infer<typeof prefix>;
export type RotateProfile = z.infer<typeof rotate>;
export type EpicacheProfile = z.infer<typeof epicache>;

/** @throws KvasirError `invalid_request` naming the field that is wrong, or the weights that the profile was made for */
export function parseKvquantProfile(value: unknown, model: ModelShape): KvquantProfile {
  const profile = parse('kvquant', kvquant, value, model);
  const channels = model.kvHeads * model.headDim;
  for (const [l, { k, v }] of profile.layers.entries()) {
    for (const side of ['least', 'greatest'] as const) {
      if (k[side].length !== channels) {
        throw bad(
          'kvquant',
          `layers.${l}.k.${side}`,
          `${k[side].length} numbers`,
          `${channels}, one a channel of keys`,
        );
      }
    }
    const empty = k.least.findIndex((least, c) => !(least < k.greatest[c]!));
    if (empty >= 0)
      throw bad('kvquant', `layers.${l}.k.greatest.${empty}`, k.greatest[empty], `more than ${k.least[empty]}`);
    for (const [plane, { luts, borders }] of [
      ['k', k],
      ['v', v],
    ] as const) {
      if (borders[2].some((x, i) => i > 0 && x < borders[2][i - 1]!))
        throw bad('kvquant', `layers.${l}.${plane}.borders.2`, borders[2].join(' '), 'ascending values');
      for (const bits of [2, 3, 4] as const) {
        const lut = luts[bits];
        if (lut.some((x, i) => i > 0 && Math.fround(x) <= Math.fround(lut[i - 1]!))) {
          throw bad('kvquant', `layers.${l}.${plane}.luts.${bits}`, lut.join(' '), 'strictly ascending values');
        }
      }
    }
  }
  return profile;
}

/** @throws KvasirError as parseKvquantProfile */
export function parseRazorProfile(value: unknown, model: ModelShape): RazorProfile {
  const profile = parse('razor-attention', razor, value, model);
  for (const [l, heads] of profile.retrieval.entries()) {
    const wrong = heads.find((head, i) => head >= model.kvHeads || (i > 0 && head <= heads[i - 1]!));
    if (wrong !== undefined) {
      throw bad('razor-attention', `retrieval.${l}`, wrong, `KV heads 0..${model.kvHeads - 1}, ascending, each once`);
    }
  }
  return profile;
}

/** @throws KvasirError as parseKvquantProfile */
export function parsePrefixProfile(value: unknown, model: ModelShape): PrefixProfile {
  const profile = parse('prefixkv', prefix, value, model);
  const { shares, layers } = profile;
  const falls = shares.findIndex((x, i) => i > 0 && x <= shares[i - 1]!);
  if (falls >= 0) throw bad('prefixkv', `shares.${falls}`, shares[falls], `more than ${shares[falls - 1]}`);
  for (const by of ['sum', 'average'] as const) {
    const short = layers.findIndex(layer => layer[by].length !== shares.length);
    if (short >= 0) {
      const allowed = `${shares.length} numbers, one a share`;
      throw bad('prefixkv', `layers.${short}.${by}`, `${layers[short]![by].length} numbers`, allowed);
    }
    for (const [i, share] of shares.entries()) {
      const mean = layers.reduce((sum, layer) => sum + layer[by][i]!, 0) / layers.length;
      if (Math.abs(mean - share) > 0.01)
        throw bad('prefixkv', `layers.0.${by}.${i}`, `a mean of ${mean.toFixed(3)} over layers`, `${share}, the share`);
    }
  }
  return profile;
}

/** @throws KvasirError as parseKvquantProfile */
export function parseRotateProfile(value: unknown, model: ModelShape): RotateProfile {
  const profile = parse('rotatekv', rotate, value, model);
  const channels = model.kvHeads * model.headDim;
  const wrong = profile.layers.findIndex(({ mean }) => mean.length !== channels);
  if (wrong >= 0) {
    const found = `${profile.layers[wrong]!.mean.length} numbers`;
    throw bad('rotatekv', `layers.${wrong}.mean`, found, `${channels}, one a channel of keys`);
  }
  return profile;
}

/** @throws KvasirError as parseKvquantProfile */
export function parseEpicacheProfile(value: unknown, model: ModelShape): EpicacheProfile {
  return parse('epicache', epicache, value, model);
}

function parse<T extends { fingerprint: string; layers?: unknown[]; retrieval?: unknown[] }>(
  kind: string,
  schema: z.ZodType<T>,
  value: unknown,
  model: ModelShape,
): T {
  if (value === undefined || value === null) {
    throw new KvasirError(
      'invalid_request',
      `${kind} needs a profile of this model: kvasir calibrate ${kind} --model <model> makes it.`,
      {
        field: 'profile',
        allowed: `a profile file of kind "${kind}"`,
      },
    );
  }
  const result = schema.safeParse(value);
  if (!result.success) {
    const issue = result.error.issues[0]!;
    throw bad(kind, issue.path.join('.'), at(value, issue.path), issue.message);
  }
  const profile = result.data;
  if (profile.fingerprint !== model.fingerprint) {
    throw bad(
      kind,
      'fingerprint',
      profile.fingerprint,
      `${model.fingerprint}: a profile holds for the weights it was made with`,
    );
  }
  const layers = (profile.layers ?? profile.retrieval)!;
  if (layers.length !== model.layers) {
    throw bad(kind, profile.layers ? 'layers' : 'retrieval', `${layers.length} layers`, `${model.layers} layers`);
  }
  return profile;
}

function at(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((x, key) => (x as Record<PropertyKey, unknown> | undefined)?.[key], value);
}

function bad(kind: string, path: string, value: unknown, allowed: string): KvasirError {
  const field = path ? `profile.${path}` : 'profile';
  return new KvasirError('invalid_request', `Bad ${kind} profile: ${field} is ${String(value)}.`, {
    field,
    value,
    allowed,
  });
}
