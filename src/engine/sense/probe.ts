import type { CacheSequence } from '../../cache/sequence.ts';
import { KvasirError } from '../../errors.ts';
import type { SignalRequest } from '../../methods/types.ts';
import type { Forward } from '../forward.ts';
import { QueryRecord } from '../query-record.ts';
import type { Work } from '../work.ts';
import { RowStore } from '../workspace.ts';
import type { Signals } from './types.ts';

/**
 * Probe rows: runs tokens through all layers as if they came next, asks for signals of them at every layer, and takes them
 * back. The sequence is then what it was: entries, positions, and the bits of whatever it computes next. Two things stay: a
 * copy of a last page that was shared with another sequence, and room in lists of references that had to grow. No decisions
 * of a recipe run. Needs room for the rows (`kv_cache_full`).
 * @param tokens at least one; their own entries come last in each view (`drop` leaves them out)
 * @param sense what to ask at a layer; `rows` of attention counts probe rows
 * @returns the answers, by layer
 */
export async function probe(
  forward: Forward,
  sequence: CacheSequence,
  tokens: ArrayLike<number>,
  sense: (layer: number) => readonly SignalRequest[],
): Promise<Signals[]> {
  const { workspace } = forward;
  const rows = tokens.length;
  if (rows === 0) {
    throw new KvasirError('invalid_request', 'There are no tokens to probe with.', {
      field: 'tokens',
      value: rows,
      allowed: 'at least one token',
    });
  }
  const position = sequence.position;
  const work = (from: number): Work => ({
    sequence,
    tokens,
    from,
    rows: Math.min(workspace.tile, rows - from),
    position: position + from,
    logits: 'none',
  });
  const answers: Signals[] = [];
  const store = new RowStore(workspace.memory, workspace.config, rows);
  try {
    sequence.prepareAppend(rows);
    try {
      for (let from = 0; from < rows; from += workspace.tile) await forward.embed([work(from)], store, from);
      for (let layer = 0; layer < workspace.config.layers; layer++) {
        answers.push(await probeLayer(forward, sequence, store, rows, layer, work, sense(layer)));
      }
    } finally {
      // Where something failed, rows of some layers have not been written; they are taken back all the same.
      sequence.commit();
      sequence.undoAppend();
    }
  } finally {
    workspace.forget(store);
    store.dispose();
  }
  return answers;
}

async function probeLayer(
  forward: Forward,
  sequence: CacheSequence,
  store: RowStore,
  rows: number,
  layer: number,
  work: (from: number) => Work,
  requests: readonly SignalRequest[],
): Promise<Signals> {
  const { workspace } = forward;
  const queries = new QueryRecord(
    workspace,
    Uint32Array.from({ length: rows }, (_, row) => row),
    rows,
  );
  try {
    for (let from = 0; from < rows; from += workspace.tile) {
      const tile = work(from);
      await forward.layers([tile], store, from, layer, layer + 1);
      queries.take(workspace.q, from, tile, layer);
    }
    const position = sequence.position - rows;
    const hidden = { address: store.hidden, rows, position: (row: number) => position + row };
    return forward.sensor.answer({ sequence, layer, queries, hidden }, requests);
  } finally {
    queries.dispose();
  }
}
