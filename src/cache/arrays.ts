/** Bytes of an allocation: whole 64-byte lines, as the allocator hands them out. */
export function blockBytes(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}

type Growable =
  | Uint8Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>;

/** A longer copy. */
export function growTo<T extends Growable>(array: T, length: number): T {
  const Type = array.constructor as new (length: number) => T;
  const grown = new Type(length);
  grown.set(array);
  return grown;
}
