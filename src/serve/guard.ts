import { createHash, timingSafeEqual } from 'node:crypto';
import type { MiddlewareHandler } from 'hono';
import { HttpError } from './errors.ts';

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);

/** Whether an address to bind reaches this machine only. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** `127.0.0.1:8080` -> `127.0.0.1`; null where it is no host. */
function hostName(host: string): string | null {
  return /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?$/i.exec(host)?.[1]?.toLowerCase() ?? null;
}

function originHost(origin: string): string | null {
  return /^https?:\/\/(.+)$/i.exec(origin)?.[1] ?? null;
}

/**
 * A web page of another site may make its visitor's browser send requests here, under a name of its own that resolves to
 * 127.0.0.1 (DNS rebinding) or not. On loopback, only this machine's own names and origins are served.
 */
export function loopbackOnly(): MiddlewareHandler {
  return async (c, next) => {
    const host = c.req.header('host') ?? '';
    const name = hostName(host);
    if (name === null || !LOOPBACK.has(name)) {
      throw new HttpError(
        'host_not_allowed',
        `Host ${JSON.stringify(host.slice(0, 100))} is not served here; allowed: localhost, 127.0.0.1, [::1].`,
      );
    }
    const origin = c.req.header('origin');
    if (origin === undefined) return next();
    const from = originHost(origin);
    const fromName = from === null ? null : hostName(from);
    if (fromName === null || !LOOPBACK.has(fromName)) {
      throw new HttpError(
        'origin_not_allowed',
        `Origin ${JSON.stringify(origin.slice(0, 100))} may not call this server; allowed: localhost, 127.0.0.1, [::1].`,
      );
    }
    // A page of another port of this machine (a development server) may read the answers.
    if (from !== host) {
      c.header('access-control-allow-origin', origin);
      c.header('vary', 'Origin');
      if (c.req.method === 'OPTIONS') {
        c.header('access-control-allow-methods', 'GET, POST');
        c.header('access-control-allow-headers', c.req.header('access-control-request-headers') ?? 'content-type');
        c.header('access-control-max-age', '600');
        return c.body(null, 204);
      }
    }
    return next();
  };
}

/** `Authorization: Bearer <key>`, compared in constant time (of digests, so that the length does not show either). */
export function requireKey(apiKey: string, isOpen: (path: string) => boolean): MiddlewareHandler {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const expected = digest(apiKey);
  return async (c, next) => {
    if (isOpen(c.req.path)) return next();
    const given = /^Bearer +(.+)$/i.exec(c.req.header('authorization') ?? '')?.[1];
    if (given !== undefined && timingSafeEqual(digest(given.trim()), expected)) return next();
    throw new HttpError(
      'invalid_api_key',
      given === undefined
        ? 'An API key is required: send it as "Authorization: Bearer <key>".'
        : 'The API key is wrong.',
      null,
      { 'www-authenticate': 'Bearer' },
    );
  };
}

const POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "worker-src 'self' blob:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** On every answer. COOP and COEP give the in-browser engine its shared memory. */
export function securityHeaders(): MiddlewareHandler {
  return async (c, next) => {
    await next();
    c.header('content-security-policy', POLICY);
    c.header('cross-origin-opener-policy', 'same-origin');
    c.header('cross-origin-embedder-policy', 'require-corp');
    c.header('cross-origin-resource-policy', 'same-origin');
    c.header('x-content-type-options', 'nosniff');
    c.header('referrer-policy', 'no-referrer');
  };
}
