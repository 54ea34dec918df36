import { createConnection, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { KvasirError } from '../errors.ts';
import { EchoEngine, echoCatalogue } from './echo.testing.ts';
import { type RunningServer, type ServeOptions, serve } from './server.node.ts';

let engine: EchoEngine;
let server: RunningServer | undefined;
beforeEach(() => {
  engine = new EchoEngine();
});
afterEach(async () => {
  await server?.close();
  server = undefined;
});

async function start(options: Partial<ServeOptions> = {}): Promise<RunningServer> {
  server = await serve({ engine, catalogue: echoCatalogue, port: 0, graceMs: 50, ...options });
  return server;
}

const endless = { model: 'echo', prompt: 'a b c', ignore_eos: true, max_tokens: 1_000_000 };

function ask(body: object, init: RequestInit = {}): Promise<Response> {
  return fetch(`${server!.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    ...init,
  });
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; !condition(); i++) {
    if (i > 300) throw new Error(`never: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 10));
  }
}

/** Sends a request and reads nothing of the answer. */
function sendRaw(port: number, body: object): Socket {
  const json = JSON.stringify(body);
  const socket = createConnection(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.pause();
  socket.write(
    `POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: ${json.length}\r\n\r\n${json}`,
  );
  return socket;
}

describe('a client that hangs up', () => {
  test('stops its request, streamed', async () => {
    await start();
    engine.tokenMs = 5;
    const controller = new AbortController();
    const response = await ask({ ...endless, stream: true }, { signal: controller.signal });
    const reader = response.body!.getReader();
    await reader.read();
    expect(engine.running).toBe(1);
    controller.abort();
    await until(() => engine.running === 0, 'the request ended');
    expect(engine.aborted).toBe(1);
  });

  test('stops its request, not streamed', async () => {
    await start();
    engine.tokenMs = 5;
    const controller = new AbortController();
    const response = ask(endless, { signal: controller.signal });
    response.catch(() => {});
    await until(() => engine.produced > 2, 'the request runs');
    controller.abort();
    await until(() => engine.running === 0, 'the request ended');
    expect(engine.aborted).toBe(1);
    await expect(response).rejects.toThrow();
  });

  test('stops its request before the first token', async () => {
    await start();
    engine.tokenMs = 60_000;
    const socket = sendRaw(server!.port, { ...endless, stream: true });
    await until(() => engine.running === 1, 'the request runs');
    socket.destroy();
    await until(() => engine.running === 0, 'the request ended');
  });

  test('while the model loads: the load goes on for others', async () => {
    await start();
    engine.loadMs = 200;
    const socket = sendRaw(server!.port, endless);
    await until(() => engine.loads === 1, 'the load began');
    socket.destroy();
    expect((await ask({ model: 'echo', prompt: 'a' })).status).toBe(200);
    expect(engine.loads).toBe(1);
    expect(engine.seen).toHaveLength(1);
  });
});

describe('a client that reads slowly', () => {
  // Wide events: the system's own socket buffers take several megabytes.
  const large = { ...endless, prompt: 'x'.repeat(200_000), stream: true };

  test('holds the engine back instead of filling memory', async () => {
    await start();
    const socket = sendRaw(server!.port, large);
    await until(() => engine.produced > 0, 'the request runs');
    let before = -1;
    await until(() => {
      const still = engine.produced === before;
      before = engine.produced;
      return still;
    }, 'the engine waits');
    await new Promise(resolve => setTimeout(resolve, 100));
    expect(engine.produced).toBe(before);
    expect(engine.running).toBe(1);
    socket.resume();
    await until(() => engine.produced > before, 'the engine goes on');
    socket.destroy();
    await until(() => engine.running === 0, 'the request ended');
  });

  test('is given up after a while', async () => {
    await start({ sse: { stallMs: 100 } });
    const socket = sendRaw(server!.port, large);
    await until(() => engine.running === 1, 'the request runs');
    await until(() => engine.running === 0, 'the request was ended');
    expect(engine.aborted).toBe(1);
    socket.destroy();
  });
});

describe('shutdown', () => {
  test('lets running requests finish within the grace time, takes no new ones', async () => {
    await start({ graceMs: 5000 });
    engine.tokenMs = 20;
    const answer = ask({ model: 'echo', prompt: 'a b c d e f g h i j' });
    await until(() => engine.running === 1, 'the request runs');
    const closed = server!.close();
    await expect(ask({ model: 'echo', prompt: 'a' })).rejects.toThrow();
    expect(await (await answer).json()).toMatchObject({ choices: [{ text: 'j i h g f e d c b a' }] });
    await closed;
  });

  test('ends what is left after it, and says so', async () => {
    await start({ graceMs: 50 });
    engine.tokenMs = 5;
    const [whole, streamed] = [ask(endless), ask({ ...endless, stream: true })];
    await until(() => engine.running === 2, 'both run');
    const text = (await streamed).text();
    await server!.close();
    expect((await whole).status).toBe(503);
    expect(await (await whole).json()).toMatchObject({ error: { code: 'shutting_down' } });
    expect(await text).toMatch(/"code":"shutting_down"\}\}\n\n$/);
    expect(engine.running).toBe(0);
  });
});

test('a client that does not read does not hold up a shutdown', async () => {
  await start({ graceMs: 50 });
  const socket = sendRaw(server!.port, { ...endless, prompt: 'x'.repeat(200_000), stream: true });
  await until(() => engine.running === 1, 'the request runs');
  await new Promise(resolve => setTimeout(resolve, 200));
  const begin = performance.now();
  await server!.close();
  expect(performance.now() - begin).toBeLessThan(2000);
  expect(engine.running).toBe(0);
  socket.destroy();
});

describe('addresses', () => {
  test('another than loopback needs a key', async () => {
    await expect(start({ host: '0.0.0.0' })).rejects.toMatchObject({
      code: 'invalid_request',
      field: 'host',
      value: '0.0.0.0',
    });
    await start({ host: '0.0.0.0', apiKey: 's3cret' });
    const url = `http://127.0.0.1:${server!.port}/v1/models`;
    expect((await fetch(url)).status).toBe(401);
    expect((await fetch(url, { headers: { authorization: 'Bearer s3cret' } })).status).toBe(200);
  });

  test('a port in use is named', async () => {
    await start();
    const error = await serve({ engine, catalogue: echoCatalogue, port: server!.port }).catch(error => error);
    expect(error).toBeInstanceOf(KvasirError);
    expect(error).toMatchObject({ field: 'port', message: expect.stringContaining('is in use') });
    await expect(serve({ engine, catalogue: echoCatalogue, port: 99_999 })).rejects.toMatchObject({ field: 'port' });
  });

  test('a body over 8 MiB is refused, the server stays up', async () => {
    await start();
    const big = await ask({ model: 'echo', prompt: 'x'.repeat(9 * 1024 * 1024) });
    expect(big.status).toBe(413);
    expect((await ask({ model: 'echo', prompt: 'a' })).status).toBe(200);
  });

  test('files beside the page are not served', async () => {
    await start();
    for (const path of [
      '/../package.json',
      '/%2e%2e/package.json',
      '/ort/../package.json',
      '/ort/ort.min.js',
      '/models/../package.json',
    ]) {
      expect((await fetch(server!.url + path)).status, path).toBe(404);
    }
  });
});
