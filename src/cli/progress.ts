import { SingleBar } from 'cli-progress';
import type { Io } from './io.ts';

/** A bar on stderr while something takes longer than a moment; nothing where stderr is not a terminal. */
export class Progress {
  readonly #io: Io;
  readonly #format: (value: number, total: number) => string;
  #bar: SingleBar | undefined;
  #since = 0;

  /** `format` says how far it is, in words. */
  constructor(io: Io, format: (value: number, total: number) => string) {
    this.#io = io;
    this.#format = format;
  }

  update(what: string, value: number, total: number): void {
    if (!this.#io.stderr.isTTY) return;
    this.#since ||= Date.now();
    // A bar that would be gone at once only flickers.
    if (!this.#bar && Date.now() - this.#since < 300) return;
    const payload = { what, done: this.#format(value, total) };
    if (!this.#bar) {
      this.#bar = new SingleBar({
        format: '{what} [{bar}] {percentage}% {done}',
        stream: this.#io.stderr,
        hideCursor: true,
        clearOnComplete: true,
        barsize: 24,
      });
      this.#bar.start(total || 1, value, payload);
    }
    this.#bar.setTotal(total || 1);
    this.#bar.update(value, payload);
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
    this.#since = 0;
  }
}

/** Says on stderr that something without a known end is going on, from its second second; returns what ends it. */
export function waiting(io: Io, what: string): () => void {
  if (!io.stderr.isTTY) return () => {};
  const since = Date.now();
  let shown = false;
  const timer = setInterval(() => {
    shown = true;
    io.stderr.write(`\r${what} ${Math.round((Date.now() - since) / 1000)} s\u001b[K`);
  }, 1000);
  return () => {
    clearInterval(timer);
    if (shown) io.stderr.write('\r\u001b[K');
    shown = false;
  };
}
