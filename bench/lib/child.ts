import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { processorSeconds } from './busy.ts';
import { type Resident, resident } from './memory.ts';

/** A measured process that answers JSON lines (serve.ts). `await using` ends it. */
export class Child implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  readonly #ended: Promise<void>;
  #next = 1;
  #chatter = '';

  /** @param script relative to bench/ */
  constructor(script: string, env: Record<string, string> = {}) {
    this.#process = spawn(process.execPath, [fileURLToPath(new URL(`../${script}`, import.meta.url))], {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#process.stderr!.on('data', (data: Buffer) => {
      this.#chatter = (this.#chatter + data).slice(-4000);
    });
    createInterface({ input: this.#process.stdout! }).on('line', line => {
      const { id, result, error } = JSON.parse(line) as { id: number; result: never; error?: string };
      const call = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) call?.resolve(result);
      else call?.reject(new Error(`${script}: ${error}`));
    });
    this.#ended = new Promise(resolve => {
      this.#process.once('close', (code, signal) => {
        for (const call of this.#waiting.values())
          call.reject(new Error(`${script} ended (${signal ?? code}):\n${this.#chatter}`));
        this.#waiting.clear();
        resolve();
      });
    });
    this.#process.stdin!.on('error', () => {}); // a dead child is reported by 'close'
  }

  call<T>(op: string, args: object = {}): Promise<T> {
    if (this.#process.exitCode !== null) return Promise.reject(new Error(`the process has ended:\n${this.#chatter}`));
    const id = this.#next++;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#process.stdin!.write(`${JSON.stringify({ id, op, args })}\n`);
    });
  }

  /** Resident bytes as the kernel sees them, read from outside. */
  memory(): Resident {
    return resident(this.#process.pid!);
  }

  /** Processor seconds used so far. */
  processorSeconds(): number {
    return processorSeconds(this.#process.pid!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.stdin!.end();
    const killer = setTimeout(() => this.#process.kill('SIGKILL'), 10_000);
    await this.#ended;
    clearTimeout(killer);
  }
}
