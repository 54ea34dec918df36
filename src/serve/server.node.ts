import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import type { EngineApi } from '../engine/types.ts';
import { KvasirError } from '../errors.ts';
import { ActiveRequests } from './active.ts';
import { type AppOptions, createApp } from './app.ts';
import { isLoopback } from './guard.ts';
import { bundledMeasurements, pageFiles } from './page.node.ts';

export interface ServeOptions extends Omit<AppOptions, 'active' | 'loopback' | 'page'> {
  readonly engine: EngineApi;
  /** Address to bind. Default 127.0.0.1. Any that is not loopback needs an API key. */
  readonly host?: string;
  /** Default 8080; 0 takes a free one. */
  readonly port?: number;
  /** How long a shutdown waits for running requests before it ends them. Default 10,000. */
  readonly graceMs?: number;
  /** Connections at once. Default 512. */
  readonly maxConnections?: number;
}

export interface RunningServer {
  readonly url: string;
  readonly port: number;
  /** Accepts no more, lets running requests finish for the grace time, then ends them. The engine stays. Idempotent. */
  close(): Promise<void>;
}

/** Listens; the page is at `/`. Raises `invalid_request` for an address that may not or cannot be bound. */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  const { engine, host = '127.0.0.1', port = 8080, graceMs = 10_000, maxConnections = 512, ...appOptions } = options;
  const loopback = isLoopback(host);
  if (!loopback && !options.apiKey) {
    throw new KvasirError(
      'invalid_request',
      `host ${host} is reachable from other machines: set an API key (--api-key, KVASIR_API_KEY).`,
      {
        field: 'host',
        value: host,
        allowed: 'localhost, 127.0.0.1, ::1; any with an API key',
      },
    );
  }
  const active = new ActiveRequests();
  const onError = options.onError ?? ((error: unknown) => console.error(error));
  const measured = bundledMeasurements();
  const app = createApp(engine, {
    ...appOptions,
    ...(measured && { measured }),
    onError,
    active,
    loopback,
    page: pageFiles(),
  });
  const server = createAdaptorServer({ fetch: app.fetch, hostname: host, overrideGlobalObjects: false }) as Server;
  server.maxConnections = maxConnections;
  await listen(server, host.replace(/^\[|\]$/g, ''), port);
  const bound = (server.address() as AddressInfo).port;
  let closing: Promise<void> | undefined;
  const close = async () => {
    const closed = new Promise<void>(resolve => server.close(() => resolve()));
    server.closeIdleConnections();
    await active.drain(graceMs);
    server.closeIdleConnections();
    // What is still open after the last request has ended serves nobody; its final bytes get a moment to leave.
    const force = setTimeout(() => server.closeAllConnections(), 500);
    await closed;
    clearTimeout(force);
  };
  return {
    url: `http://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${bound}`,
    port: bound,
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  try {
    server.listen(port, host, resolve);
    await promise;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ERR_SOCKET_BAD_PORT') {
      throw new KvasirError('invalid_request', `port must be 0 to 65535; got ${port}.`, {
        field: 'port',
        value: port,
        allowed: '0..65535',
      });
    }
    const why = code === 'EADDRINUSE' ? `port ${port} is in use; choose another with --port` : message;
    throw new KvasirError('invalid_request', `Cannot listen on ${host}:${port}: ${why}.`, {
      field: code === 'EADDRINUSE' || code === 'EACCES' ? 'port' : 'host',
      value: code === 'EADDRINUSE' || code === 'EACCES' ? port : host,
      cause: error,
    });
  } finally {
    server.off('error', reject);
  }
}
