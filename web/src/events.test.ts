import { expect, test } from 'vitest';
import { readEvents } from './events.ts';

function stream(...chunks: string[]): ReadableStream<Uint8Array> {
  const bytes = chunks.map(chunk => new TextEncoder().encode(chunk));
  return new ReadableStream({
    pull(controller) {
      const next = bytes.shift();
      if (next) controller.enqueue(next);
      else controller.close();
    },
  });
}

async function read(...chunks: string[]): Promise<unknown[]> {
  const values: unknown[] = [];
  for await (const value of readEvents(stream(...chunks))) values.push(value);
  return values;
}

test('values, wherever the bytes are cut', async () => {
  const text = ': waiting\n\ndata: {"a":"ö"}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n';
  const bytes = new TextEncoder().encode(text);
  for (let cut = 1; cut < bytes.length; cut++) {
    const parts = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(bytes.slice(0, cut));
        controller.enqueue(bytes.slice(cut));
        controller.close();
      },
    });
    const values: unknown[] = [];
    for await (const value of readEvents(parts)) values.push(value);
    expect(values, `cut at ${cut}`).toEqual([{ a: 'ö' }, { b: 2 }]);
  }
});

test('an error event is raised', async () => {
  await expect(read('data: {"a":1}\n\n', 'data: {"error":{"message":"no memory"}}\n\n')).rejects.toThrow('no memory');
});

test('a stream that is cut off is an error', async () => {
  await expect(read('data: {"a":1}\n\n')).rejects.toThrow('before the answer did');
});
