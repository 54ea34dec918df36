import { KvasirError } from '../errors.ts';
import type { ByteSource } from './types.ts';

const WINDOW = 1 << 20;
const MAX_STRING = 16 << 20;
// A token may be a byte order mark: it is text here.
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/**
 * Reads a file forwards through a window of at most 1 MiB (or one longer string).
 * Errors are `bad_model_file` and name the section given as `what`.
 */
export class HeaderReader {
  readonly size: number;
  private readonly source: ByteSource;
  private window: Uint8Array = new Uint8Array(0);
  private view: DataView = new DataView(new ArrayBuffer(0));
  /** Offset of the window in the file, and of the next byte in the window. */
  private base = 0;
  private next = 0;

  constructor(source: ByteSource) {
    this.source = source;
    this.size = source.size;
  }

  /** Offset of the next byte in the file. */
  get position(): number {
    return this.base + this.next;
  }

  /** Whether the next `count` bytes are in the window. */
  buffered(count: number): boolean {
    return this.next + count <= this.window.length;
  }

  /** Brings the next `count` bytes into the window. */
  async fill(count: number, what: string): Promise<void> {
    if (this.buffered(count)) return;
    const position = this.position;
    if (count > this.size - position) {
      throw this.bad(what, `it needs ${count} bytes at offset ${position}, ${this.size - position} are left`);
    }
    this.window = await this.source.read(position, Math.min(this.size - position, Math.max(count, WINDOW)));
    this.view = new DataView(this.window.buffer, this.window.byteOffset, this.window.length);
    this.base = position;
    this.next = 0;
  }

  /** Steps over `count` buffered bytes; they begin at `at` of `view`. */
  take(count: number): { view: DataView; at: number } {
    const at = this.next;
    this.next += count;
    return { view: this.view, at };
  }

  async bytes(count: number, what: string): Promise<Uint8Array> {
    await this.fill(count, what);
    const { at } = this.take(count);
    return this.window.subarray(at, at + count);
  }

  async u32(what: string): Promise<number> {
    await this.fill(4, what);
    const { view, at } = this.take(4);
    return view.getUint32(at, true);
  }

  async u64(what: string): Promise<number> {
    await this.fill(8, what);
    const { view, at } = this.take(8);
    return Number(view.getBigUint64(at, true));
  }

  /** A count of things of at least `leastBytes` each: refused where it cannot fit in what is left. */
  async count(what: string, limit: number, leastBytes: number): Promise<number> {
    const count = await this.u64(what);
    const room = Math.floor((this.size - this.position) / leastBytes);
    if (count > limit || count > room) {
      throw this.bad(what, `a count of ${count} does not fit (limit ${limit}, room for ${room})`, count);
    }
    return count;
  }

  async string(what: string): Promise<string> {
    const length = await this.u64(what);
    if (length > MAX_STRING) throw this.bad(what, `a string of ${length} bytes is longer than ${MAX_STRING}`, length);
    return decoder.decode(await this.bytes(length, what));
  }

  /** The next string where all of it is in the window, else undefined and nothing is taken. */
  bufferedString(): string | undefined {
    if (!this.buffered(8) || this.view.getUint32(this.next + 4, true) !== 0) return undefined;
    const length = this.view.getUint32(this.next, true);
    if (!this.buffered(8 + length)) return undefined;
    const { at } = this.take(8 + length);
    return decoder.decode(this.window.subarray(at + 8, at + 8 + length));
  }

  bad(what: string, reason: string, value?: unknown): KvasirError {
    return new KvasirError('bad_model_file', `${this.source.name}: bad GGUF file, ${what}: ${reason}.`, {
      field: what,
      ...(value !== undefined && { value }),
    });
  }
}
