import type { Readable, Writable } from 'node:stream';
import type { Catalogue } from '../engine/catalogue.ts';
import type { EngineApi, EngineOptions } from '../engine/types.ts';

/** Where a command reads and writes. A test gives its own. */
export interface Io {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean };
  readonly env: Readonly<Record<string, string | undefined>>;
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
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    onInterrupt(handler) {
      let asked = false;
      const once = () => {
        // Who asks twice does not want to wait for a tidy end.
        if (asked) process.exit(130);
        asked = true;
        handler();
      };
      for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, once);
      return () => {
        for (const signal of ['SIGINT', 'SIGTERM']) process.off(signal, once);
      };
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
