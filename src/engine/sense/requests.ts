import { KvasirError } from '../../errors.ts';
import type { AttentionSignal, SignalRequest } from '../../methods/types.ts';
import type { ModelConfig } from '../../model/types.ts';
import { promptRows } from './query-rows.ts';
import type { Plane } from './records.ts';
import type { SensePoint } from './types.ts';

/** Equal for equal requests, however they are written. */
export function keyOf(request: SignalRequest): string {
  switch (request.signal) {
    case 'attention': {
      const { rows, reduce, pool, drop, group, from } = request;
      const pooling = pool && [pool.kind, pool.width, pool.after === 'group'];
      const which = typeof rows === 'object' ? [rows.last, rows.sampled] : rows;
      return JSON.stringify(['attention', which, reduce, pooling ?? 0, drop ?? 0, group ?? 0, from ?? 'prompt']);
    }
    case 'gram':
      return JSON.stringify(['gram', request.of, request.layers, request.entries ?? -1]);
    case 'principal':
      return JSON.stringify(['principal', request.of, request.layers, request.rank]);
    case 'clusters':
      return JSON.stringify(['clusters', request.size, request.rounds, request.skipFirst, request.skipLast]);
    case 'neighbour-cosine':
    case 'layer-cosine':
      return JSON.stringify([request.signal, request.of, request.layer ?? -1]);
    case 'hidden-peaks':
      return JSON.stringify(['hidden-peaks', request.count]);
    case 'ranges':
      return JSON.stringify([request.signal, request.of]);
    case 'distance':
      return `distance ${request.of} ${numberOf(request.pairs)}`;
    case 'nearest':
      return `nearest ${request.of} ${numberOf(request.centres)} ${numberOf(request.members)}`;
    case 'residual': {
      const { of, basis, members, rank, choose } = request;
      return `residual ${of} ${numberOf(basis)} ${numberOf(members)} ${rank} ${choose}`;
    }
    default:
      return request.signal;
  }
}

/** Whether it is needed, or which entries it is about, is known only where it is looked at: it is answered there, unannounced. */
export function isLate({ signal }: SignalRequest): boolean {
  return ['distance', 'nearest', 'residual', 'principal'].includes(signal);
}

/** Is it about rows that ran through the layer, which are gone later? */
export function isOfRows(request: SignalRequest): boolean {
  const { signal } = request;
  return signal === 'attention' || signal.startsWith('hidden-') || (request.signal === 'ranges' && request.of === 'q');
}

/** Lists of entries are long: they are told apart by which array they are. */
const numbers = new WeakMap<object, number>();
let last = 0;

function numberOf(list: object): number {
  const known = numbers.get(list);
  if (known !== undefined) return known;
  numbers.set(list, ++last);
  return last;
}

/** Is it about the rows of a probe, not of the prompt? */
export function isOfProbe(request: SignalRequest): boolean {
  return request.signal === 'attention' && request.from === 'probe';
}

/** Planes that a reduction is made of. */
export function planesOf(reduce: AttentionSignal['reduce']): readonly Plane[] {
  if (reduce === 'variance') return ['mean', 'm2'];
  return [reduce === 'mean' || reduce === 'seen-mean' ? 'sum' : reduce];
}

/** Refuses what cannot be answered, before anything is computed. */
export function checkRequest(request: SignalRequest, at: SensePoint, config: ModelConfig): void {
  switch (request.signal) {
    case 'attention':
      checkAttention(request, at);
      break;
    case 'key-norm':
    case 'value-norm':
      break;
    case 'hidden-norm':
      need(at.hidden !== null, 'signal', request.signal, 'signals of what was kept: no hidden rows were');
      break;
    case 'hidden-peaks':
      need(at.hidden !== null, 'signal', request.signal, 'signals of what was kept: no hidden rows were');
      need(isCount(request.count) && request.count > 0, 'signal.count', request.count, 'a whole number, at least 1');
      break;
    case 'layer-cosine':
      need(isLayer(request.layer, config), 'signal.layer', request.layer, `a layer, 0 to ${config.layers - 1}`);
      checkPlane(request.of);
      break;
    case 'neighbour-cosine':
      checkPlane(request.of);
      break;
    case 'ranges':
      if (request.of === 'q') {
        const complete = at.queries !== null && at.queries.rows === promptRows(at.queries);
        need(complete, 'signal.of', 'q', 'signals of what was kept: not all query rows were');
      } else {
        checkPlane(request.of);
      }
      break;
    case 'distance':
      checkPlane(request.of);
      checkEntries('signal.pairs', request.pairs, at, config);
      for (const list of request.pairs) need(list.length % 2 === 0, 'signal.pairs', list.length, 'two entries a pair');
      break;
    case 'nearest':
      checkPlane(request.of);
      checkEntries('signal.centres', request.centres, at, config);
      checkEntries('signal.members', request.members, at, config);
      for (const [head, members] of request.members.entries())
        need(
          members.length === 0 || request.centres[head]!.length > 0,
          'signal.centres',
          0,
          'at least one where there are members',
        );
      break;
    case 'residual':
      checkPlane(request.of);
      checkEntries('signal.basis', request.basis, at, config);
      checkEntries('signal.members', request.members, at, config);
      need(isCount(request.rank) && request.rank > 0, 'signal.rank', request.rank, 'a whole number, at least 1');
      need(['first', 'pivot'].includes(request.choose), 'signal.choose', request.choose, ['first', 'pivot']);
      break;
    case 'gram': {
      const { layers, entries } = request;
      const known = layers.length > 0 && layers.every(layer => isLayer(layer, config));
      need(known, 'signal.layers', layers, `layers, 0 to ${config.layers - 1}`);
      need(entries === undefined || isCount(entries), 'signal.entries', entries, 'a whole number');
      checkPlane(request.of);
      break;
    }
    case 'principal': {
      const { layers, rank } = request;
      const known = layers.length > 0 && layers.every(layer => isLayer(layer, config));
      need(known, 'signal.layers', layers, `layers, 0 to ${config.layers - 1}`);
      const width = layers.length * config.kvHeads * config.headDim;
      const fits = isCount(rank) && rank > 0 && rank % 8 === 0 && rank <= width;
      need(fits, 'signal.rank', rank, `a multiple of 8 up to ${width}`);
      checkPlane(request.of);
      break;
    }
    case 'clusters': {
      need(isCount(request.size) && request.size > 0, 'signal.size', request.size, 'a whole number, at least 1');
      need(
        isCount(request.rounds) && request.rounds > 0,
        'signal.rounds',
        request.rounds,
        'a whole number, at least 1',
      );
      need(isCount(request.skipFirst), 'signal.skipFirst', request.skipFirst, 'a whole number');
      need(isCount(request.skipLast), 'signal.skipLast', request.skipLast, 'a whole number');
      break;
    }
    default:
      need(false, 'signal', (request as { signal: unknown }).signal, 'a signal of src/methods/types.ts');
  }
}

function checkAttention({ rows, reduce, pool, drop, group }: AttentionSignal, at: SensePoint): void {
  if (typeof rows === 'object') {
    need(isShare(rows.last), 'signal.rows.last', rows.last, 'a number from 0 to 1');
    need(isShare(rows.sampled), 'signal.rows.sampled', rows.sampled, 'a number from 0 to 1');
  } else {
    need(rows === 'all' || (isCount(rows) && rows > 0), 'signal.rows', rows, '"all", a whole number from 1, or shares');
  }
  const reductions = ['sum', 'mean', 'max', 'variance', 'entropy', 'seen-mean'];
  need(reductions.includes(reduce), 'signal.reduce', reduce, reductions);
  need(drop === undefined || isCount(drop), 'signal.drop', drop, 'a whole number');
  need(group === undefined || ['mean', 'sum', 'max'].includes(group), 'signal.group', group, ['mean', 'sum', 'max']);
  if (pool) {
    need(['mean', 'max'].includes(pool.kind), 'signal.pool.kind', pool.kind, ['mean', 'max']);
    need(Number.isInteger(pool.width) && pool.width % 2 === 1, 'signal.pool.width', pool.width, 'an odd whole number');
  }
  need(at.queries !== null, 'signal', 'attention', 'signals of what was kept: no query rows were');
}

function checkEntries(
  field: string,
  lists: readonly Uint32Array[],
  { sequence, layer }: SensePoint,
  config: ModelConfig,
): void {
  need(lists.length === config.kvHeads, field, lists.length, `one list a KV head: ${config.kvHeads}`);
  for (const [head, list] of lists.entries()) {
    const entries = sequence.entries(layer, head);
    const bad = list.find(entry => entry >= entries);
    need(bad === undefined, field, bad, `entries of head ${head}: below ${entries}`);
  }
}

function checkPlane(of: unknown): void {
  need(of === 'k' || of === 'v', 'signal.of', of, ['k', 'v']);
}

function isShare(value: unknown): boolean {
  return typeof value === 'number' && value >= 0 && value <= 1;
}

function isCount(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0;
}

function isLayer(layer: unknown, config: ModelConfig): boolean {
  return isCount(layer) && (layer as number) < config.layers;
}

function need(fits: boolean, field: string, value: unknown, allowed: string | readonly string[]): void {
  if (fits) return;
  throw new KvasirError('invalid_request', `This signal cannot be computed: ${field} is ${JSON.stringify(value)}.`, {
    field,
    value,
    allowed,
  });
}
