import { OpenAPIHono } from '@hono/zod-openapi';
import type { Context, MiddlewareHandler } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import type { EngineApi } from '../engine/types.ts';
import { KvasirError } from '../errors.ts';
import { describeMethod } from '../methods/describe.ts';
import { METHODS } from '../methods/index.ts';
import type { Measured } from '../methods/measured.ts';
import type { Catalogue } from '../model/catalogue.ts';
import { ActiveRequests } from './active.ts';
import { chat } from './chat.ts';
import { compare } from './compare.ts';
import { completions } from './completions.ts';
import { HttpError, toErrorResponse } from './errors.ts';
import { loopbackOnly, requireKey, securityHeaders } from './guard.ts';
import { ModelPool } from './models.ts';
import { documentRoutes, OPENAPI_INFO } from './openapi.ts';
import type { SseOptions } from './sse.ts';
import { detokenize, load, tokenize } from './tools.ts';

export interface AppOptions {
  readonly catalogue: Catalogue;
  /** Every API path but /health then wants `Authorization: Bearer <key>`. */
  readonly apiKey?: string;
  /** Serve only requests whose Host and Origin are this machine's. Default true. */
  readonly loopback?: boolean;
  /** Bytes of a request body. Default 8 MiB. */
  readonly bodyLimit?: number;
  /** What methods did on the bundled model, for /v1/kvasir/methods. */
  readonly measured?: Measured;
  /** The command that gets a better model, as the page shows it. */
  readonly pullCommand?: string;
  /** Requests that run; given by a server that drains them when it stops. */
  readonly active?: ActiveRequests;
  readonly sse?: SseOptions;
  /** Serves the page and its files: what is no API path. */
  readonly page?: MiddlewareHandler;
  /** Errors that nobody raised on purpose. */
  readonly onError?: (error: unknown) => void;
}

/** What handlers work with. */
export interface Services {
  readonly engine: EngineApi;
  readonly pool: ModelPool;
  readonly active: ActiveRequests;
  readonly sse: SseOptions;
}

const API = /^\/(?:v1(?:\/|$)|(?:tokenize|detokenize|load|stats|health|openapi\.json)$)/;
const OPEN = /^\/health$/;

/** The server as a function from request to response. Raises nothing: every failure is a response in OpenAI's error shape. */
export function createApp(engine: EngineApi, options: AppOptions): OpenAPIHono {
  const {
    active = new ActiveRequests(),
    onError,
    sse = {},
    pullCommand = 'npm run -s kvasir -- pull smollm2-135m',
  } = options;
  const pool = new ModelPool(engine, options.catalogue);
  const report = (error: unknown) => {
    if (!(error instanceof HttpError || error instanceof KvasirError)) onError?.(error);
  };
  const services: Services = { engine, pool, active, sse: { ...sse, onError: report } };
  const app = new OpenAPIHono();

  app.onError((error, c) => {
    // After the client has gone, whatever fails fails because of that.
    if (!c.req.raw.signal.aborted) report(error);
    return errorResponse(c, error);
  });
  app.notFound(c => errorResponse(c, new HttpError('not_found', `No ${c.req.method} ${c.req.path} here.`)));
  app.use(securityHeaders());
  if (options.loopback ?? true) app.use(loopbackOnly());
  if (options.apiKey !== undefined) app.use(requireKey(options.apiKey, path => !API.test(path) || OPEN.test(path)));
  const limit = options.bodyLimit ?? 8 * 1024 * 1024;
  app.use(
    bodyLimit({
      maxSize: limit,
      onError: () => {
        throw new HttpError('body_too_large', `The body is too large; allowed: ${limit} bytes.`);
      },
    }),
  );

  const route = (method: 'GET' | 'POST', path: string, handler: (c: Context) => Response | Promise<Response>) => {
    app.on(method === 'GET' ? ['GET', 'HEAD'] : ['POST'], [path], c => handler(c));
    app.all(path, c => {
      throw new HttpError('method_not_allowed', `${c.req.path} takes ${method}; got ${c.req.method}.`, null, {
        allow: method,
      });
    });
  };
  route('POST', '/v1/chat/completions', c => chat(c, services));
  route('POST', '/v1/completions', c => completions(c, services));
  route('GET', '/v1/models', async c =>
    c.json({ object: 'list', data: await pool.list(), kvasir: { pull: pullCommand } }),
  );
  route('GET', '/v1/models/:id{.+}', async c => c.json(await pool.get(c.req.param('id')!)));
  const methods = {
    object: 'list',
    data: METHODS.map(describeMethod),
    kvasir: { measured: options.measured ?? null },
  };
  route('GET', '/v1/kvasir/methods', c => c.json(methods));
  route('POST', '/v1/kvasir/compare', c => compare(c, services));
  route('POST', '/tokenize', c => tokenize(c, services));
  route('POST', '/detokenize', c => detokenize(c, services));
  route('POST', '/load', c => load(c, services));
  route('GET', '/health', c => (active.draining ? c.json({ status: 'shutting_down' }, 503) : c.json({ status: 'ok' })));
  route('GET', '/stats', async c => c.json(plain(await engine.stats()) as object));
  documentRoutes(app);
  route('GET', '/openapi.json', c => c.json(app.getOpenAPI31Document(OPENAPI_INFO)));
  if (options.page) app.get('*', options.page);
  return app;
}

function errorResponse(c: Context, error: unknown): Response {
  const { status, headers, body } = toErrorResponse(error);
  return c.json(body, status, { ...headers });
}

/** Typed arrays as lists. */
function plain(value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number>);
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}
