import { PassThrough, Readable } from 'node:stream';
import type { EngineApi, EngineOptions } from '../engine/types.ts';
import type { Catalogue } from '../model/catalogue.ts';
import { nodeCatalogue } from '../model/hub/catalogue.node.ts';
import type { Io } from './io.ts';
import { main } from './main.ts';

export interface CliRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliSetting {
  stdin?: string | Readable;
  env?: Record<string, string | undefined>;
  catalogue?: Catalogue;
  createEngine?: (options: EngineOptions) => Promise<EngineApi>;
  /** Receives what Ctrl-C would call, as soon as a command listens for it. */
  interrupts?: (fire: () => void) => void;
  onStdout?: (text: string) => void;
}

/** Runs one command line in this process, with its own streams. */
export async function runCli(argv: readonly string[], setting: CliSetting = {}): Promise<CliRun> {
  const output = { stdout: '', stderr: '' };
  const stream = (name: 'stdout' | 'stderr') => {
    const pass = new PassThrough();
    pass.setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
      if (name === 'stdout') setting.onStdout?.(text);
    });
    return pass;
  };
  const stdin = setting.stdin ?? '';
  const io: Io = {
    stdin: typeof stdin === 'string' ? Readable.from(stdin === '' ? [] : [Buffer.from(stdin)]) : stdin,
    stdout: stream('stdout'),
    stderr: stream('stderr'),
    env: setting.env ?? {},
    onInterrupt(handler) {
      setting.interrupts?.(handler);
      return () => {};
    },
  };
  const createEngine =
    setting.createEngine ??
    (() => {
      throw new Error('this command line must not start an engine');
    });
  const code = await main(argv, { io, catalogue: setting.catalogue ?? nodeCatalogue(), createEngine });
  await new Promise(resolve => setImmediate(resolve));
  return { code, ...output };
}
