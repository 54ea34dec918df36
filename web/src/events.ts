/**
 * JSON values of a server-sent event stream, until `[DONE]`. Raises what an `error` event says, and where the stream is
 * cut off before its end. Leaving the loop cancels the stream.
 */
export async function* readEvents<T extends object>(body: ReadableStream<Uint8Array>): AsyncGenerator<T> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  let complete = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done && complete) return;
      if (done) throw new Error('The connection ended before the answer did.');
      const events = (rest + decoder.decode(value, { stream: true })).split('\n\n');
      rest = events.pop()!;
      for (const event of events) {
        // Read on to the end: a stream left before it looks like a hung-up client.
        if (event === 'data: [DONE]') complete = true;
        if (!event.startsWith('data: {')) continue;
        const data = JSON.parse(event.slice(6)) as T | { error: { message: string } };
        if ('error' in data) throw new Error((data as { error: { message: string } }).error.message);
        yield data as T;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
