import { KvasirError } from '../errors.ts';
import type { Content } from './content.ts';
import { MAX_POSITION } from './positions.ts';

/** Refuses a prepareAppend that names rows, slots or positions that cannot be; raises `invalid_request`. */
export function checkAppend(
  c: Content,
  rows: number,
  positions: Int32Array | undefined,
  fromSlot: number,
  toSlot: number,
): void {
  c.checkAlive();
  const { slots } = c.storage.shape;
  if (!(Number.isInteger(rows) && rows >= 0 && rows <= MAX_POSITION)) {
    throw new KvasirError('invalid_request', `Cannot append ${rows} rows.`, {
      field: 'rows',
      value: rows,
      allowed: 'a whole number',
    });
  }
  const inside =
    Number.isInteger(fromSlot) && Number.isInteger(toSlot) && fromSlot >= 0 && fromSlot < toSlot && toSlot <= slots;
  if (!inside || !c.spans.isBorder[fromSlot] || !c.spans.isBorder[toSlot]) {
    throw new KvasirError('invalid_request', `Cannot append to slots ${fromSlot} to ${toSlot}.`, {
      field: 'slots',
      value: `${fromSlot}..${toSlot}`,
      allowed: `a range within 0..${slots} that cuts no page's span`,
    });
  }
  for (let slot = fromSlot; slot < toSlot; slot++) {
    if (c.pending[slot] === 0) continue;
    throw new KvasirError('invalid_request', `Slot ${slot} has prepared rows already.`, {
      field: 'slots',
      value: slot,
      allowed: 'commit or rollback first',
    });
  }
  if (!positions) {
    for (let g = c.spans.firstGroup[fromSlot]!; g < c.spans.firstGroup[toSlot]!; g++) {
      const group = c.spans.groups[g]!;
      for (let s = group.slot; s < group.slot + group.slots; s++) {
        if (c.next[s] === c.next[group.slot]) continue;
        throw new KvasirError(
          'invalid_request',
          `Slots ${group.slot} and ${s} share pages but not their next position.`,
          {
            field: 'positions',
            value: c.next[s],
            allowed: 'explicit positions',
          },
        );
      }
    }
    return;
  }
  if (positions.length !== rows) {
    throw new KvasirError('invalid_request', `${positions.length} positions for ${rows} rows.`, {
      field: 'positions',
      value: positions.length,
      allowed: `${rows} positions`,
    });
  }
  for (const position of positions) if (position < 0 || position === MAX_POSITION) throw badPosition(position);
}

export function badPosition(position: number): KvasirError {
  return new KvasirError('invalid_request', `There is no position ${position}.`, {
    field: 'positions',
    value: position,
    allowed: `0 to ${MAX_POSITION - 1}`,
  });
}
