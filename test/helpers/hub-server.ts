import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A file of the test hub. Files with `lfs` are served by a redirect to a second origin, as the hub does. */
export interface HubFile {
  readonly bytes: Buffer;
  readonly lfs?: boolean;
  readonly fault?: HubFault;
}

/** What goes wrong when the bytes are asked for. */
export interface HubFault {
  /** Break the connection after this many bytes of a response, this many times. */
  cut?: { after: number; times: number };
  /** End the response after this many bytes, without a Content-Length. */
  truncate?: { after: number; times: number };
  ignoreRange?: boolean;
  /** Answer ranges from this many bytes further on. */
  wrongRange?: number;
  refuseRange?: boolean;
  corrupt?: boolean;
  /** Send this many bytes more than announced. */
  extra?: number;
  stall?: boolean;
  loop?: boolean;
  status?: { code: number; times: number };
  noSize?: boolean;
  /** Say this size, in listing and headers. */
  announce?: number;
  downgrade?: string;
}

export interface HubRequest {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

/** A loopback server with the hub's paths: tree listing, resolve with X-Linked-* headers, redirect to a CDN, ranges. */
export class HubServer {
  readonly requests: HubRequest[] = [];
  readonly repos = new Map<string, Map<string, HubFile>>();
  /** Repositories that want this token. */
  readonly gated = new Map<string, string>();
  /** Sends the listing in pages of this many entries. */
  pageSize = 1000;
  listing: 'good' | 'html' | 'endless' | 'traversal' = 'good';
  #hub: Server;
  #cdn: Server;

  private constructor() {
    this.#hub = createServer((request, response) => this.#answer(request, response, 'hub'));
    this.#cdn = createServer((request, response) => this.#answer(request, response, 'cdn'));
  }

  static async start(): Promise<HubServer> {
    const server = new HubServer();
    for (const part of [server.#hub, server.#cdn]) {
      await new Promise<void>(resolve => part.listen(0, '127.0.0.1', resolve));
    }
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`;
  }

  get #cdnUrl(): string {
    return `http://127.0.0.1:${(this.#cdn.address() as AddressInfo).port}`;
  }

  add(repo: string, files: Record<string, HubFile>): void {
    this.repos.set(repo, new Map(Object.entries(files)));
  }

  /** Requests for the bytes of files, not for headers or listings. */
  get downloads(): HubRequest[] {
    return this.requests.filter(request => request.method === 'GET' && !request.path.startsWith('/api/'));
  }

  async stop(): Promise<void> {
    for (const part of [this.#hub, this.#cdn]) {
      part.closeAllConnections();
      await new Promise(resolve => part.close(resolve));
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse, host: 'hub' | 'cdn'): unknown {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const { authorization, range } = request.headers;
    this.requests.push({ method: request.method ?? '', host, path: url.pathname, range, authorization });
    const tree = /^\/api\/models\/([^/]+\/[^/]+)\/tree\/([^/]+)$/.exec(url.pathname);
    if (tree) return this.#tree(tree[1]!, decodeURIComponent(tree[2]!), url, response);
    const resolve = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
    if (resolve) return this.#resolve(resolve[1]!, decodeURIComponent(resolve[3]!), request, response, host);
    fail(response, 404, 'NotFound');
  }

  #tree(repo: string, revision: string, url: URL, response: ServerResponse): unknown {
    const files = this.repos.get(repo);
    if (!files) return fail(response, 401, 'RepoNotFound');
    if (revision !== 'main' && revision !== 'v1') return fail(response, 404, 'RevisionNotFound');
    if (this.listing === 'html') return response.setHeader('content-type', 'text/html').end('<h1>portal</h1>');
    const entries = [...files].map(([path, file]) => ({
      type: 'file',
      path: this.listing === 'traversal' ? `../../${path}` : path,
      size: file.fault?.announce ?? file.bytes.length,
      oid: file.lfs ? sha1(`pointer of ${path}`) : gitDigest(file.bytes),
      ...(file.lfs && {
        lfs: { oid: sha256(file.bytes), size: file.fault?.announce ?? file.bytes.length, pointerSize: 130 },
      }),
    }));
    const from = Number(url.searchParams.get('cursor') ?? 0);
    const next = from + this.pageSize;
    if (this.listing === 'endless' || next < entries.length) {
      response.setHeader('link', `<${this.url}${url.pathname}?recursive=true&cursor=${next}>; rel="next"`);
    }
    response.setHeader('content-type', 'application/json').end(JSON.stringify(entries.slice(from, next)));
  }

  #resolve(
    repo: string,
    path: string,
    request: IncomingMessage,
    response: ServerResponse,
    host: 'hub' | 'cdn',
  ): unknown {
    const files = this.repos.get(repo);
    if (!files) return fail(response, 401, 'RepoNotFound');
    const token = this.gated.get(repo);
    if (host === 'hub' && token && request.headers.authorization !== `Bearer ${token}`) {
      return fail(response, 401, 'GatedRepo');
    }
    const file = files.get(path);
    if (!file) return fail(response, 404, 'EntryNotFound');
    const fault = file.fault ?? {};
    if (fault.status && fault.status.times-- > 0) return fail(response, fault.status.code, '');
    if (fault.loop) return response.writeHead(302, { location: `${request.url}?again` }).end();
    if (host === 'hub') {
      const etag = file.lfs ? sha256(file.bytes) : gitDigest(file.bytes);
      response.setHeader('x-repo-commit', sha1(repo));
      if (!file.lfs) response.setHeader('etag', `"${etag}"`);
      else {
        response.setHeader('x-linked-etag', `"${etag}"`);
        if (!fault.noSize) response.setHeader('x-linked-size', fault.announce ?? file.bytes.length);
        response.setHeader('etag', '"of-the-redirect"');
        return response.writeHead(302, { location: `${fault.downgrade ?? this.#cdnUrl}${request.url}` }).end();
      }
    }
    send(file.bytes, fault, request, response);
  }
}

function send(whole: Buffer, fault: HubFault, request: IncomingMessage, response: ServerResponse): unknown {
  let from = 0;
  const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
  if (range && !fault.ignoreRange) {
    from = Number(range[1]) + (fault.wrongRange ?? 0);
    if (fault.refuseRange || from >= whole.length) return fail(response, 416, '');
    response.statusCode = 206;
    response.setHeader('content-range', `bytes ${from}-${whole.length - 1}/${whole.length}`);
  }
  let body = whole.subarray(from);
  if (request.method === 'HEAD') return response.setHeader('content-length', body.length).end();
  if (fault.stall) return response.setHeader('content-length', body.length).flushHeaders();
  if (fault.corrupt) body = Buffer.from(body).fill(0x21, 0, 1);
  if (fault.extra) body = Buffer.concat([body, Buffer.alloc(fault.extra)]);
  if (fault.truncate && fault.truncate.times-- > 0) return response.end(body.subarray(0, fault.truncate.after));
  if (!fault.extra) response.setHeader('content-length', body.length);
  if (fault.cut && fault.cut.times-- > 0) {
    response.write(body.subarray(0, fault.cut.after), () => setTimeout(() => response.destroy(), 10));
    return;
  }
  response.end(body);
}

function fail(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'x-error-code': code, 'content-type': 'application/json' });
  response.end(JSON.stringify({ error: code }));
}

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function sha1(text: string): string {
  return createHash('sha1').update(text).digest('hex');
}

function gitDigest(bytes: Buffer): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}
