import { KvasirError } from '../../errors.ts';

/** A hub: where it is, who asks, and how long to wait for it. */
export interface Endpoint {
  /** Without a trailing slash. */
  readonly url: string;
  readonly token?: string;
  /** Most milliseconds to the headers of a response, and between two pieces of a body. */
  readonly timeoutMs: number;
  /** Attempts without a byte of progress before a download is given up. */
  readonly attempts: number;
  /** Milliseconds before the second attempt; doubles. */
  readonly backoffMs: number;
}

/** A failure that another attempt may not meet. Never leaves this folder. */
export class TransientError extends Error {}

const MAX_REDIRECTS = 5;
const DEFAULT_URL = 'https://huggingface.co';

/** KVASIR_HUB_URL or HF_ENDPOINT says where, HF_TOKEN who. */
export function hubEndpoint(env: Readonly<Record<string, string | undefined>> = process.env): Endpoint {
  const field = env.KVASIR_HUB_URL ? 'KVASIR_HUB_URL' : 'HF_ENDPOINT';
  const given = env.KVASIR_HUB_URL || env.HF_ENDPOINT || DEFAULT_URL;
  const url = URL.parse(given);
  if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash || url.username) {
    throw new KvasirError('invalid_request', 'not a hub address', {
      field,
      value: given,
      allowed: 'an http or https address without query, fragment or user',
    });
  }
  const token = env.HF_TOKEN?.trim();
  return {
    url: url.href.replace(/\/+$/, ''),
    ...(token && { token }),
    timeoutMs: 30_000,
    attempts: 5,
    backoffMs: 500,
  };
}

export interface Answer {
  readonly response: Response;
  /** Headers of the hub's own answer, before it redirected to where the bytes lie. */
  readonly hub: Headers;
  /** Aborts the body. */
  readonly controller: AbortController;
}

/**
 * One request. Redirects are followed at most five times; the token goes to the hub's origin only, and never from
 * https to http. With `stay`, a redirect to another origin is not followed but returned.
 * Raises TransientError (network, time-out, 429, 5xx) or KvasirError (everything that trying again does not mend).
 */
export async function request(
  endpoint: Endpoint,
  target: string,
  init: {
    method?: 'GET' | 'HEAD';
    headers?: Record<string, string>;
    stay?: boolean;
    signal?: AbortSignal | undefined;
  } = {},
): Promise<Answer> {
  const origin = new URL(endpoint.url).origin;
  const controller = new AbortController();
  const signal = init.signal ? AbortSignal.any([init.signal, controller.signal]) : controller.signal;
  let url = new URL(target);
  let hub: Headers | undefined;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const headers: Record<string, string> = { 'user-agent': 'kvasir', 'accept-encoding': 'identity', ...init.headers };
    if (endpoint.token && url.origin === origin) headers.authorization = `Bearer ${endpoint.token}`;
    const response = await withTimeout(endpoint, controller, init.signal, url, () =>
      fetch(url, { method: init.method ?? 'GET', headers, redirect: 'manual', signal }),
    );
    const location = response.headers.get('location');
    hub = mergeLinked(hub, response.headers);
    if (response.status < 300 || response.status >= 400 || !location) {
      if (response.ok || response.status === 416) return { response, hub, controller };
      await response.body?.cancel();
      throw refusal(endpoint, url, response);
    }
    const next = URL.parse(location, url.href);
    await response.body?.cancel();
    if (!next || !/^https?:$/.test(next.protocol) || (url.protocol === 'https:' && next.protocol === 'http:')) {
      throw new KvasirError('download_failed', `${url.host} redirects to an address that is not allowed`, {
        value: location,
        allowed: 'http or https, and never from https to http',
      });
    }
    if (init.stay && next.origin !== url.origin) return { response, hub, controller };
    url = next;
  }
  throw new KvasirError('download_failed', `${origin} redirects more than ${MAX_REDIRECTS} times`, { value: target });
}

/** The hub says what a file is (X-Linked-*, X-Repo-Commit) on the answer that redirects to its bytes; the first word counts. */
function mergeLinked(before: Headers | undefined, now: Headers): Headers {
  const merged = new Headers(now);
  for (const [name, value] of before ?? []) if (name.startsWith('x-')) merged.set(name, value);
  return merged;
}

async function withTimeout(
  endpoint: Endpoint,
  controller: AbortController,
  signal: AbortSignal | undefined,
  url: URL,
  work: () => Promise<Response>,
): Promise<Response> {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    controller.abort();
  }, endpoint.timeoutMs);
  try {
    return await work();
  } catch (error) {
    if (signal?.aborted) throw aborted(signal);
    if (late) throw new TransientError(`${url.host} gave no answer in ${endpoint.timeoutMs / 1000} s`);
    throw new TransientError(`cannot reach ${url.host} (${reason(error)})`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

export function aborted(signal: AbortSignal): KvasirError {
  return new KvasirError('aborted', 'the download was stopped; what is on disk is kept for the next pull', {
    cause: signal.reason,
  });
}

/** The code of a network failure, which fetch hides in its cause. */
export function reason(error: unknown): string {
  const cause = (error as { cause?: { code?: string; message?: string } }).cause;
  return cause?.code ?? cause?.message ?? (error as Error).message;
}

function refusal(endpoint: Endpoint, url: URL, response: Response): Error {
  const { status } = response;
  const code = response.headers.get('x-error-code') ?? '';
  const path = decodeURIComponent(url.pathname);
  if (status === 401 || status === 403) {
    const why = code === 'GatedRepo' ? 'the repository is gated' : 'the repository is gated, private or does not exist';
    return new KvasirError('download_failed', `the hub refused access (${status}): ${why}`, {
      field: 'HF_TOKEN',
      value: endpoint.token ? 'a token that gives no access' : 'not set',
      allowed: "a token with access, after accepting the terms on the model's page",
    });
  }
  if (status === 404 || status === 410) {
    const what =
      { RepoNotFound: 'repository', RevisionNotFound: 'revision', EntryNotFound: 'file' }[code] ??
      'repository, revision or file';
    return new KvasirError('model_not_found', `the hub has no such ${what}`, { field: 'model', value: path });
  }
  if (status === 408 || status === 429 || status >= 500) return new TransientError(`${url.host} answered ${status}`);
  return new KvasirError('download_failed', `${url.host} answered ${status}`, { value: path });
}

/** Runs `work` again after a transient failure; `fresh` tells whether the last attempt brought anything new. */
export async function retrying<T>(
  endpoint: Endpoint,
  signal: AbortSignal | undefined,
  work: (progressed: () => void) => Promise<T>,
): Promise<T> {
  for (let failures = 0; ; ) {
    let fresh = false;
    try {
      return await work(() => {
        fresh = true;
      });
    } catch (error) {
      if (!(error instanceof TransientError)) throw error;
      failures = fresh ? 1 : failures + 1;
      if (failures >= endpoint.attempts) {
        throw new KvasirError('download_failed', `${error.message}, ${failures} attempts without progress`, {
          cause: error,
        });
      }
      await pause(endpoint.backoffMs * 2 ** (failures - 1), signal);
    }
  }
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(aborted(signal!));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener('abort', stop, { once: true });
  });
}
