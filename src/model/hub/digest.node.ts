import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';

/** How the bytes of a file are known to be right: SHA-256 of the file, or git's SHA-1 of it as a blob. Hex. */
export interface Digest {
  readonly kind: 'sha256' | 'git';
  readonly hex: string;
}

/** A hash to feed the whole file of `size` bytes to. */
export function startDigest(kind: Digest['kind'], size: number): Hash {
  return kind === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

/** Feeds the first `length` bytes of a file to a hash. */
export async function feed(hash: Hash, path: string, length: number): Promise<void> {
  if (length === 0) return;
  for await (const piece of createReadStream(path, { end: length - 1, highWaterMark: 1 << 20 }))
    hash.update(piece as Buffer);
}

/** An ETag that is a digest (the hub's are), without quotes and weakness; undefined where it is something else. */
export function digestOfEtag(etag: string | null): Digest | undefined {
  const hex = /^(?:W\/)?"?([0-9a-f]+)"?$/.exec(etag ?? '')?.[1];
  if (hex?.length === 64) return { kind: 'sha256', hex };
  if (hex?.length === 40) return { kind: 'git', hex };
  return undefined;
}
