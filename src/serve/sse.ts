import type { ActiveRequest } from './active.ts';
import { HttpError, toErrorResponse } from './errors.ts';

export interface SseOptions {
  /** A first event later than this, and the headers go out before it; an error after that comes as an event. */
  headersAfterMs?: number;
  /** Time between comments that keep an idle connection open. */
  keepAliveMs?: number;
  /** A client that takes no event for this long is given up. */
  stallMs?: number;
  onError?: (error: unknown) => void;
}

const encoder = new TextEncoder();

/**
 * Server-sent events from JSON values; `[DONE]` ends them. One event is made only when the client can take it, so a slow
 * reader slows the engine and nothing piles up. What fails before the first event is thrown: it still gets a status.
 * Ends `run` in every case.
 */
export async function sseResponse(
  events: AsyncIterable<unknown>,
  run: ActiveRequest,
  options: SseOptions = {},
): Promise<Response> {
  const { headersAfterMs = 5000, keepAliveMs = 15_000, stallMs = 60_000, onError } = options;
  const iterator = events[Symbol.asyncIterator]();
  let pending: Promise<IteratorResult<unknown>> | undefined = iterator.next();
  try {
    await within(pending, headersAfterMs);
  } catch (error) {
    run.end();
    throw error;
  }

  let stall: NodeJS.Timeout | undefined;
  let pulling = false;
  const finish = () => {
    clearTimeout(stall);
    run.end();
    pending?.catch(() => {});
    void iterator.return?.()?.catch(() => {});
  };
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        // Nobody pulls at this moment, and perhaps nobody ever will.
        const onAbort = () => {
          if (!pulling) fail(controller, run.signal.reason);
        };
        run.signal.addEventListener('abort', onAbort, { once: true });
      },
      async pull(controller) {
        pulling = true;
        clearTimeout(stall);
        try {
          pending ??= iterator.next();
          const result = await within(pending, keepAliveMs);
          if (result === 'late') {
            controller.enqueue(encoder.encode(': waiting\n\n'));
          } else {
            pending = undefined;
            controller.enqueue(encoder.encode(result.done ? 'data: [DONE]\n\n' : event(result.value)));
            if (result.done) {
              controller.close();
              finish();
              return;
            }
          }
          const reason = new HttpError('aborted', `The client took no event for ${stallMs} ms.`);
          stall = setTimeout(() => run.abort(reason), stallMs);
        } catch (error) {
          if (!run.signal.aborted) onError?.(error);
          fail(controller, run.signal.aborted ? run.signal.reason : error);
        } finally {
          pulling = false;
        }
      },
      cancel(reason) {
        run.abort(reason);
        finish();
      },
    },
    { highWaterMark: 0 },
  );
  const fail = (controller: ReadableStreamDefaultController<Uint8Array>, reason: unknown) => {
    finish();
    // A client that went away has closed its stream: there is nothing left to write to.
    try {
      controller.enqueue(encoder.encode(event(toErrorResponse(reason).body)));
      controller.close();
    } catch {}
  };
  return new Response(body, {
    headers: {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      'transfer-encoding': 'chunked',
    },
  });
}

function event(value: unknown): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

async function within<T>(promise: Promise<T>, ms: number): Promise<T | 'late'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>(resolve => {
    timer = setTimeout(() => resolve('late'), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
