import { HttpError } from './errors.ts';

/** One request that holds engine work. */
export interface ActiveRequest {
  /** Fires when the client goes away, reads too slowly, or the server stops. */
  readonly signal: AbortSignal;
  abort(reason: unknown): void;
  /** Idempotent. */
  end(): void;
}

/** The requests that run, so that a shutdown can wait for them, then end them. */
export class ActiveRequests {
  readonly #controllers = new Set<AbortController>();
  #draining = false;
  #idle: (() => void) | undefined;

  get size(): number {
    return this.#controllers.size;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** Raises `shutting_down` once a drain has begun. */
  begin(client: AbortSignal): ActiveRequest {
    if (this.#draining)
      throw new HttpError('shutting_down', 'The server is shutting down.', null, { connection: 'close' });
    const controller = new AbortController();
    const onAbort = () => controller.abort(client.reason);
    if (client.aborted) onAbort();
    else client.addEventListener('abort', onAbort, { once: true });
    this.#controllers.add(controller);
    return {
      signal: controller.signal,
      abort: reason => controller.abort(reason),
      end: () => {
        client.removeEventListener('abort', onAbort);
        if (this.#controllers.delete(controller) && this.#controllers.size === 0) this.#idle?.();
      },
    };
  }

  /** Takes no more; resolves when the running ones have ended, aborting those left after `graceMs`. */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true;
    if (this.#controllers.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#idle = resolve;
    const abortAll = () => {
      const reason = new HttpError('shutting_down', 'The server is shutting down.');
      for (const controller of this.#controllers) controller.abort(reason);
    };
    // A request that does not answer its abort must not hold the process.
    const grace = setTimeout(abortAll, graceMs);
    const last = setTimeout(resolve, graceMs + 5000);
    await promise;
    clearTimeout(grace);
    clearTimeout(last);
  }
}
