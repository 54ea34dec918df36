import { REF_BYTES } from '../../../kernels/abi.ts';
import type { Memory } from '../../backend/types.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import { liveRows } from './live.ts';

/** How much of a view rows can see, by their position. */
export class Reach {
  readonly #positions: Int32Array;
  /** Entries of the references up to each one, itself included. */
  readonly #ends: Uint32Array;

  constructor(memory: Memory, sequence: CacheSequence, layer: number, head: number) {
    this.#positions = sequence.positions(layer, head);
    this.#ends = new Uint32Array(sequence.refCount(layer, head));
    let entries = 0;
    for (let i = 0; i < this.#ends.length; i++) {
      entries += liveRows(memory, sequence.refs(layer, head) + i * REF_BYTES);
      this.#ends[i] = entries;
    }
  }

  /** References and whole entries of them, after which none is at or before a position. */
  until(position: number): { readonly refs: number; readonly entries: number } {
    let last = this.#positions.length - 1;
    while (last >= 0 && this.#positions[last]! > position) last--;
    let refs = this.#ends.length;
    while (refs > 0 && (refs > 1 ? this.#ends[refs - 2]! : 0) > last) refs--;
    return { refs, entries: refs > 0 ? this.#ends[refs - 1]! : 0 };
  }
}
