import { MAX_HEAD_DIM, MAX_JOINT_PART, MAX_JOINT_WIDTH, PAGE_TOKENS } from '../../kernels/abi.ts';
import { KvasirError } from '../errors.ts';
import type { JointFormat, LatentFormat, OutlierRule, ScalarFormat, ScalarPart } from './format.ts';

/** Widest shared rows that the kernels take. */
export const MAX_LATENT_RANK = 1024;

/**
 * Checks what a plane format promises. Raises `invalid_request` naming the field (`field` is the path of the format itself,
 * for example `k`), the value and what is allowed.
 */
export function checkPlaneFormat(
  format: ScalarFormat | LatentFormat | JointFormat,
  headDim: number,
  plane: 'k' | 'v',
  field: string,
): void {
  const check = checker(field);
  const known = plane === 'k' ? ['scalar', 'latent', 'joint'] : ['scalar', 'latent'];
  check('', format?.kind, known.includes(format?.kind), `a plane format: ${known.join(', ')}`);
  check('headDim', headDim, within(headDim, 8, MAX_HEAD_DIM) && headDim % 8 === 0, 'a multiple of 8, 8 to 256');
  if (format.kind === 'latent') checkLatent(format, headDim, check);
  else if (format.kind === 'joint') checkJoint(format, headDim, field, check);
  else checkScalar(format, headDim, field, check);
}

type Check = (name: string, value: unknown, fits: boolean, allowed: string) => void;

function checker(field: string): Check {
  return (name, value, fits, allowed) => {
    if (fits) return;
    const path = name === '' ? field : `${field}.${name}`;
    throw new KvasirError('invalid_request', `${path} is ${text(value)}; allowed: ${allowed}.`, {
      field: path,
      value,
      allowed,
    });
  };
}

function text(value: unknown): string {
  return typeof value === 'object' ? (JSON.stringify(value) ?? 'null').slice(0, 100) : String(value);
}

function within(value: unknown, from: number, to: number): boolean {
  return Number.isInteger(value) && (value as number) >= from && (value as number) <= to;
}

function checkLatent(format: LatentFormat, headDim: number, check: Check): void {
  check('bits', format.bits, [4, 8, 16].includes(format.bits), '16, 8 or 4');
  const { rank } = format;
  check('rank', rank, within(rank, 8, MAX_LATENT_RANK) && rank % 8 === 0, `a multiple of 8, 8 to ${MAX_LATENT_RANK}`);
  if (!format.basis) check('rank', rank, rank === headDim, `headDim (${headDim}) where there is no basis`);
}

function checkJoint({ heads, parts }: JointFormat, headDim: number, field: string, check: Check): void {
  const isPower = (n: number) => (n & (n - 1)) === 0;
  const most = MAX_JOINT_WIDTH / headDim;
  check('headDim', headDim, isPower(headDim), 'a power of two for heads that are rotated together');
  check('heads', heads, within(heads, 1, most) && isPower(heads), `a power of two, at most ${most}`);
  checkParts(parts, heads * headDim, field, check);
  for (const [i, part] of parts.entries()) {
    const at = `parts[${i}]`;
    const width = channelsOf(part, heads * headDim).length;
    check(`${at}.channels`, width, width <= MAX_JOINT_PART, `at most ${MAX_JOINT_PART} channels`);
    check(`${at}.transform`, part.transform, part.transform === undefined, 'none: the heads are transformed together');
    check(`${at}.side`, part.side, !part.side, 'none');
    check(`${at}.scope`, part.scope, part.scope !== 'shared', 'page');
  }
}

function checkParts(parts: readonly ScalarPart[], width: number, field: string, check: Check): void {
  check('parts', parts, Array.isArray(parts) && parts.length >= 1 && parts.length <= width, 'at least one part');
  const seen = new Uint8Array(width);
  for (const [i, part] of parts.entries()) checkPart(part, width, parts.length, checker(`${field}.parts[${i}]`), seen);
  const missing = seen.indexOf(0);
  check('parts', missing, missing < 0, `channel sets that cover 0 to ${width - 1}: channel ${missing} is in none`);
}

function checkScalar(format: ScalarFormat, headDim: number, field: string, check: Check): void {
  const { parts } = format;
  checkParts(parts, headDim, field, check);
  if (format.outliers) checkOutliers(format.outliers, parts, check);
  const lowRank = format.lowRank;
  if (lowRank) {
    const most = Math.min(PAGE_TOKENS, headDim);
    check('lowRank.rank', lowRank.rank, within(lowRank.rank, 0, most), `an integer from 0 to ${most}`);
    check('lowRank.rounds', lowRank.rounds, within(lowRank.rounds ?? 3, 1, 100), 'an integer from 1 to 100');
  }
}

function checkOutliers(rule: OutlierRule, parts: readonly ScalarPart[], check: Check): void {
  check('outliers.share', rule.share, rule.share >= 0 && rule.share <= 0.25, 'a number from 0 to 0.25');
  check('outliers.per', rule.per, ['channel', 'token', 'range'].includes(rule.per), 'channel, token or range');
  if (rule.per !== 'range') return;
  const fits = parts.some(part => part.scope === 'shared') && parts.every(part => !part.transform);
  check(
    'outliers.per',
    rule.per,
    fits,
    'range only with a shared range and without a transform: else channel or token',
  );
}

const RANGES = ['minmax', 'absmax', 'sign', 'deviation', 'ternary'] as const;

function checkPart(part: ScalarPart, headDim: number, parts: number, check: Check, seen: Uint8Array): void {
  const { bits, along, range = 'minmax', lut } = part;
  check('channels', part.channels, part.channels !== undefined || parts === 1, 'given where there are several parts');
  const channels = channelsOf(part, headDim);
  check('channels', channels, channels.length > 0, 'at least one channel');
  for (const channel of channels) {
    check('channels', channel, within(channel, 0, headDim - 1), `integers from 0 to ${headDim - 1}`);
    check('channels', channel, seen[channel] === 0, 'disjoint channel sets, each channel once');
    seen[channel] = 1;
  }
  const width = channels.length;
  check('bits', bits, [1, 2, 3, 4, 8, 16].includes(bits), '1, 2, 3, 4, 8 or 16');
  check('along', along, along === 'token' || along === 'channel', 'token or channel');
  check('range', range, RANGES.includes(range), RANGES.join(', '));
  check('scope', part.scope, ['page', 'shared'].includes(part.scope ?? 'page'), 'page or shared');
  check('transform', part.transform, [undefined, 'hadamard'].includes(part.transform), 'hadamard or none');
  if (part.transform) check('channels', width, (width & (width - 1)) === 0, 'a power of two for a Hadamard transform');
  if (part.group !== undefined) {
    if (along === 'token') check('group', part.group, [16, 32, 64].includes(part.group), '16, 32 or 64 along tokens');
    else check('group', part.group, within(part.group, 1, width) && width % part.group === 0, `a divisor of ${width}`);
  }
  if (range === 'sign' || range === 'deviation')
    check('range', range, bits === 1 && !lut, `${range} with 1 bit and without a lut only`);
  if (range === 'ternary') check('range', range, bits === 2 && !lut, 'ternary with 2 bits and without a lut only');
  const { clip = 1, threshold = 0.5 } = part;
  const clipped = range === 'minmax' && bits < 16 && part.scope !== 'shared';
  check('clip', clip, clip > 0 && clip <= 1, 'a share, above 0 and at most 1');
  check('clip', clip, clip === 1 || clipped, 'below 1 with the minmax range of a page only');
  check('threshold', threshold, threshold > 0 && threshold < 1, 'a share between 0 and 1');
  check('threshold', threshold, part.threshold === undefined || range === 'ternary', 'given with ternary only');
  if (range === 'absmax') check('range', range, bits > 1 && bits < 16, 'absmax with 2 to 8 bits only');
  if (part.scope === 'shared') {
    check('scope', part.scope, along === 'token' && bits < 16, 'shared along tokens and with at most 8 bits only');
    check('group', part.group, (part.group ?? PAGE_TOKENS) === PAGE_TOKENS, '64 or none where parameters are shared');
    check('range', range, range !== 'deviation' && range !== 'ternary', 'another one where parameters are shared');
  }
  if (lut) checkLut(lut, part, check);
  if (part.borders) checkBorders(part.borders, part, check);
  if (part.lutRange) {
    const [least, greatest] = part.lutRange;
    const fits = lut !== undefined && Number.isFinite(greatest - least) && least < greatest;
    check('lutRange', part.lutRange, fits, 'two finite numbers, ascending, beside a lut');
  }
}

function checkBorders(borders: readonly number[], { lut }: ScalarPart, check: Check): void {
  const fits = lut !== undefined && borders.length === lut.length - 1;
  check('borders', borders.length, fits, 'one less than values, beside a lut');
  for (const [i, value] of borders.entries()) {
    const ascending = Number.isFinite(value) && (i === 0 || value >= borders[i - 1]!);
    check('borders', value, ascending, 'finite numbers, ascending');
  }
}

function checkLut(lut: readonly number[], part: ScalarPart, check: Check): void {
  check('lut', lut.length, part.bits < 16 && lut.length === 2 ** part.bits, '2^bits values, for at most 8 bits');
  for (const [i, value] of lut.entries()) {
    const fits = Number.isFinite(value) && (i === 0 || Math.fround(value) > Math.fround(lut[i - 1]!));
    check('lut', value, fits, 'finite numbers, ascending in f32');
  }
}

/** The channels of a part in the order in which they are stored. */
export function channelsOf(part: ScalarPart, headDim: number): readonly number[] {
  return part.channels ?? Array.from({ length: headDim }, (_, i) => i);
}
