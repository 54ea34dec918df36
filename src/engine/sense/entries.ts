import type { Kernels } from '../../backend/types.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import { KvasirError } from '../../errors.ts';
import type { DistanceSignal, SignalRequest, SimilaritySignal } from '../../methods/types.ts';
import { Distances, LayerCosines, type Meter, NeighbourCosines, Norms, Ranges } from './meters.ts';
import { readRows } from './rows.ts';
import { Space } from './space.ts';
import type { SensePoint } from './types.ts';

/** Entries decoded at once. */
const BLOCK = 4096;

/**
 * Norms, cosines and ranges of the entries of a layer, PerHead by key: each plane is decoded once for all of them.
 * @returns how many entries were decoded, keys and values counted apart
 */
export function measureEntries(
  kernels: Kernels,
  { sequence, layer }: SensePoint,
  asked: ReadonlyMap<string, SignalRequest>,
  values: Map<string, unknown>,
): number {
  let decoded = 0;
  for (const plane of ['k', 'v'] as const) {
    const requests = [...asked].filter(([, request]) => planeOf(request) === plane);
    if (requests.length === 0) continue;
    const heads = requests.map((): Float32Array[] => []);
    for (let head = 0; head < sequence.cache.shape.kvHeads; head++) {
      const space = new Space(kernels.memory);
      try {
        const meters = requests.map(([, request]) => meterOf(kernels, sequence, layer, head, request, space));
        decoded += readThrough(kernels, sequence, layer, head, plane, meters, space);
        for (const [i, meter] of meters.entries()) heads[i]!.push(meter.value);
      } finally {
        space.free();
      }
    }
    for (const [i, [key]] of requests.entries()) values.set(key, heads[i]);
  }
  return decoded;
}

function planeOf(request: SignalRequest): 'k' | 'v' | null {
  switch (request.signal) {
    case 'key-norm':
      return 'k';
    case 'value-norm':
      return 'v';
    case 'neighbour-cosine':
    case 'layer-cosine':
    case 'distance':
      return request.of;
    case 'ranges':
      return request.of === 'q' ? null : request.of;
    default:
      return null;
  }
}

function readThrough(
  kernels: Kernels,
  sequence: CacheSequence,
  layer: number,
  head: number,
  plane: 'k' | 'v',
  meters: readonly Meter[],
  space: Space,
): number {
  const { memory } = kernels;
  const { headDim } = sequence.cache.shape;
  const entries = sequence.entries(layer, head);
  const address = space.alloc(Math.min(BLOCK, entries) * headDim * 4);
  for (let from = 0; from < entries; from += BLOCK) {
    const count = Math.min(BLOCK, entries - from);
    readRows(kernels, sequence, layer, head, plane, from, from + count, address);
    for (const meter of meters) {
      meter.take(memory.f32.subarray(address / 4, address / 4 + count * headDim), from, count);
    }
  }
  return entries;
}

function meterOf(
  kernels: Kernels,
  sequence: CacheSequence,
  layer: number,
  head: number,
  request: SignalRequest,
  space: Space,
): Meter {
  const { headDim } = sequence.cache.shape;
  const entries = sequence.entries(layer, head);
  switch ((request as { signal: string }).signal) {
    case 'neighbour-cosine':
      return new NeighbourCosines(entries, headDim);
    case 'ranges':
      return new Ranges(headDim);
    case 'distance':
      return new Distances((request as DistanceSignal).pairs[head]!, entries, headDim);
    case 'layer-cosine': {
      const { of, layer: other } = request as SimilaritySignal;
      checkSame(sequence, layer, other!, head);
      const address = space.alloc(Math.min(BLOCK, entries) * headDim * 4);
      return new LayerCosines(entries, headDim, (first, count) => {
        readRows(kernels, sequence, other!, head, of, first, first + count, address);
        return kernels.memory.f32.subarray(address / 4, address / 4 + count * headDim);
      });
    }
    default:
      return new Norms(entries, headDim);
  }
}

function checkSame(sequence: CacheSequence, layer: number, other: number, head: number): void {
  const positions = sequence.positions(layer, head);
  const others = sequence.positions(other, head);
  if (positions.length === others.length && positions.every((position, i) => position === others[i])) return;
  throw new KvasirError('invalid_request', `Layers ${layer} and ${other} do not hold the same entries.`, {
    field: 'signal.layer',
    value: other,
    allowed: 'a layer whose views hold the same entries',
  });
}
