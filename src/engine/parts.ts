import type { GeneratePart } from './types.ts';

/** Parts that a reader may leave unread before its request is paused. */
const MOST_UNREAD = 64;

/** What a request has produced and its reader has not taken yet. Bounded: the scheduler pauses a request whose queue is full. */
export class PartQueue {
  readonly #parts: GeneratePart[] = [];
  #wakeReader: (() => void) | null = null;
  #onDrain: () => void;
  #ended = false;
  #error: unknown = null;

  constructor(onDrain: () => void) {
    this.#onDrain = onDrain;
  }

  get full(): boolean {
    return this.#parts.length >= MOST_UNREAD;
  }

  push(part: GeneratePart): void {
    this.#parts.push(part);
    this.#wake();
  }

  end(error: unknown = null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#wake();
  }

  /** The next part, or null at the end; raises what the request ended with. */
  async next(): Promise<GeneratePart | null> {
    for (;;) {
      const wasFull = this.full;
      const part = this.#parts.shift();
      if (part) {
        if (wasFull) this.#onDrain();
        return part;
      }
      if (this.#error) throw this.#error;
      if (this.#ended) return null;
      await new Promise<void>(resolve => {
        this.#wakeReader = resolve;
      });
    }
  }

  #wake(): void {
    this.#wakeReader?.();
    this.#wakeReader = null;
  }
}
