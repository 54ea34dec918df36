import type { Readable, Writable } from 'node:stream';
import type { EngineApi, EngineOptions } from '../engine/types.ts';
import type { Catalogue } from '../model/catalogue.ts';

/** Where a command reads and writes. A test gives its own. */
export interface Io {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean };
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Nobody reads standard output any more. */
  readonly readerGone?: boolean;
  /** Calls `handler` on Ctrl-C instead of ending the process; returns what undoes it. */
  onInterrupt(handler: () => void): () => void;
}

/** What the commands work with. */
export interface Context {
  readonly io: Io;
  readonly catalogue: Catalogue;
  createEngine(options: EngineOptions): Promise<EngineApi>;
}

export function processIo(): Io {
  const handlers = new Set<() => void>();
  let readerGone = false;
  // A reader that has gone (`kvasir generate | head -1`) stops the work like Ctrl-C, and is no failure.
  process.stdout.on('error', error => {
    readerGone ||= (error as NodeJS.ErrnoException).code === 'EPIPE';
    for (const handler of handlers) handler();
  });
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    get readerGone() {
      return readerGone;
    },
    onInterrupt(handler) {
      const signals = ['SIGINT', 'SIGTERM'] as const;
      const release = () => {
        handlers.delete(handler);
        for (const signal of signals) process.off(signal, once);
      };
      // Who asks twice does not want to wait for a tidy end: the second signal finds no listener and ends the process.
      const once = () => {
        release();
        handler();
      };
      handlers.add(handler);
      for (const signal of signals) process.on(signal, once);
      return release;
    },
  };
}

/** One JSON value on a line of its own. */
export function printJson(io: Io, value: unknown): void {
  io.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Everything on standard input, at most 16 MiB, for a prompt that is piped in. */
export async function readAll(stdin: Readable, limit = 16 << 20): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of stdin) {
    const buffer = Buffer.from(piece);
    bytes += buffer.length;
    if (bytes > limit) throw new RangeError(`more than ${limit} bytes`);
    pieces.push(buffer);
  }
  return Buffer.concat(pieces);
}
