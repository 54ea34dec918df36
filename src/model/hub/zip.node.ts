import type { FileHandle } from 'node:fs/promises';
import { createInflateRaw } from 'node:zlib';
import { KvasirError } from '../../errors.ts';

/** A file inside a ZIP archive (APPNOTE.TXT 6.3.10; a wheel is one). */
export interface ZipMember {
  readonly name: string;
  /** 0 stored, 8 deflated. */
  readonly method: number;
  readonly compressed: number;
  readonly size: number;
  /** Byte of its local header. */
  readonly offset: number;
}

const END = 0x06054b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
/** The end record without its comment, and the longest comment. */
const END_BYTES = 22;
const MAX_COMMENT = 65_535;
const MAX_DIRECTORY = 16 << 20;

function bad(why: string): KvasirError {
  return new KvasirError('download_failed', `not a readable ZIP archive: ${why}`);
}

/** The archive's directory. ZIP64 (over 4 GiB or 65,534 members) and encryption are refused. */
export async function zipMembers(file: FileHandle): Promise<ZipMember[]> {
  const { size } = await file.stat();
  const tail = await readAt(file, Math.max(0, size - END_BYTES - MAX_COMMENT), size);
  let end = tail.length - END_BYTES;
  while (end >= 0 && tail.readUInt32LE(end) !== END) end--;
  if (end < 0) throw bad('it has no end record');
  const count = tail.readUInt16LE(end + 10);
  const bytes = tail.readUInt32LE(end + 12);
  const start = tail.readUInt32LE(end + 16);
  if (count === 0xffff || bytes === 0xffffffff || start === 0xffffffff) throw bad('ZIP64 is not supported');
  if (bytes > MAX_DIRECTORY || start + bytes > size) throw bad('its directory lies outside of it');
  const directory = await readAt(file, start, start + bytes);
  const members: ZipMember[] = [];
  for (let at = 0, i = 0; i < count; i++) {
    if (at + 46 > directory.length || directory.readUInt32LE(at) !== CENTRAL) throw bad('its directory is damaged');
    if (directory.readUInt16LE(at + 8) & 1) throw bad('it is encrypted');
    const nameLength = directory.readUInt16LE(at + 28);
    members.push({
      name: directory.toString('utf8', at + 46, at + 46 + nameLength),
      method: directory.readUInt16LE(at + 10),
      compressed: directory.readUInt32LE(at + 20),
      size: directory.readUInt32LE(at + 24),
      offset: directory.readUInt32LE(at + 42),
    });
    at += 46 + nameLength + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
  }
  return members;
}

/** A member's bytes, never more than the directory promises. The caller verifies a digest; the CRC is not read. */
export async function* readMember(file: FileHandle, member: ZipMember): AsyncGenerator<Buffer> {
  if (member.method !== 0 && member.method !== 8) throw bad(`compression method ${member.method} is not supported`);
  const header = await readAt(file, member.offset, member.offset + 30);
  if (header.length < 30 || header.readUInt32LE(0) !== LOCAL) throw bad('a local header is damaged');
  const start = member.offset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
  let written = 0;
  const raw = member.compressed === 0 ? [] : slices(file, start, start + member.compressed);
  const pieces = member.method === 0 ? raw : inflate(raw);
  for await (const piece of pieces) {
    written += piece.length;
    if (written > member.size) throw bad(`${member.name} is longer than its directory says`);
    yield piece;
  }
  if (written < member.size) throw bad(`${member.name} is shorter than its directory says`);
}

async function* inflate(raw: Iterable<Buffer> | AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const inflater = createInflateRaw({ chunkSize: 1 << 18 });
  const feeding = (async () => {
    for await (const piece of raw) {
      if (!inflater.write(piece)) await new Promise(resolve => inflater.once('drain', resolve));
    }
    inflater.end();
  })().catch(error => inflater.destroy(error));
  try {
    for await (const piece of inflater) yield piece as Buffer;
  } catch (error) {
    throw KvasirError.from(error, 'download_failed');
  } finally {
    inflater.destroy();
  }
  await feeding;
}

async function* slices(file: FileHandle, from: number, to: number): AsyncGenerator<Buffer> {
  for (let at = from; at < to; ) {
    const piece = await readAt(file, at, Math.min(to, at + (1 << 18)));
    if (piece.length === 0) throw bad('it is cut off');
    yield piece;
    at += piece.length;
  }
}

async function readAt(file: FileHandle, from: number, to: number): Promise<Buffer> {
  const buffer = Buffer.alloc(to - from);
  const { bytesRead } = await file.read(buffer, 0, buffer.length, from);
  return buffer.subarray(0, bytesRead);
}
