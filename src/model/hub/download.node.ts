import { mkdir, open, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { KvasirError } from '../../errors.ts';
import { type Digest, digestOfEtag, feed, startDigest } from './digest.node.ts';
import { aborted, type Endpoint, reason, request, retrying, TransientError } from './http.node.ts';

/** A file on the hub and what is known of it beforehand. */
export interface RemoteFile {
  readonly repo: string;
  readonly revision: string;
  readonly path: string;
  readonly size?: number;
  readonly digest?: Digest;
}

export interface DownloadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Bytes of this file on disk, and its size. */
  readonly onBytes?: (received: number, total: number) => void;
}

/** What the hub said of a file; a part on disk is continued only if all of it is still so. */
interface Known {
  readonly url: string;
  readonly size: number;
  readonly digest: Digest | null;
  readonly etag: string;
}

/**
 * Downloads into `target`, by way of `target.part`: continued where an earlier attempt stopped, checked against size
 * and digest, then renamed. So a file at `target` is whole and right, whatever happened on the way.
 * Raises `download_failed`, `checksum_mismatch`, `model_not_found` or `aborted`.
 */
export async function download(
  endpoint: Endpoint,
  file: RemoteFile,
  target: string,
  options: DownloadOptions = {},
): Promise<void> {
  const { signal } = options;
  const known = await retrying(endpoint, signal, () => ask(endpoint, file, signal));
  await mkdir(dirname(target), { recursive: true });
  const part = `${target}.part`;
  let have = await partLength(part, known);
  await checkSpace(target, known.size - have);
  await writeFile(`${part}.json`, JSON.stringify(known));
  const hash = async () => {
    const digest = startDigest(known.digest?.kind ?? 'sha256', known.size);
    await feed(digest, part, have);
    return digest;
  };
  let digest = await hash();
  let most = have;
  options.onBytes?.(have, known.size);

  await retrying(endpoint, signal, async progressed => {
    if (have === known.size) return;
    const { response, controller } = await request(endpoint, known.url, {
      signal,
      headers: have > 0 ? { range: `bytes=${have}-` } : {},
    });
    const restarted = checkRange(response, have, known.size);
    if (restarted) {
      await response.body?.cancel();
      await rm(part, { force: true });
      have = 0;
      digest = await hash();
      throw new TransientError('the server does not continue downloads');
    }
    if (response.status === 200 && have > 0) {
      // The server ignored the range and sends the file from its start.
      have = 0;
      digest = await hash();
    }
    const output = await open(part, have > 0 ? 'r+' : 'w');
    try {
      for await (const piece of pieces(endpoint, response, controller, signal)) {
        if (have + piece.length > known.size) {
          controller.abort();
          throw new KvasirError(
            'download_failed',
            `the server sent more than the ${known.size} bytes that it announced`,
            {
              field: 'file',
              value: file.path,
            },
          );
        }
        await output.write(piece, 0, piece.length, have);
        digest.update(piece);
        have += piece.length;
        // Bytes that came before, to a server that ignores ranges, are no progress.
        if (have > most) progressed();
        most = Math.max(most, have);
        options.onBytes?.(have, known.size);
      }
      if (have < known.size) throw new TransientError(`the server ended the file after ${have} of ${known.size} bytes`);
      await output.sync();
    } catch (error) {
      throw diskError(error, target, known.size - have);
    } finally {
      await output.close();
    }
  });

  if (known.size === 0) await writeFile(part, '');
  const hex = digest.digest('hex');
  if (known.digest && hex !== known.digest.hex) {
    await Promise.all([rm(part, { force: true }), rm(`${part}.json`, { force: true })]);
    throw new KvasirError('checksum_mismatch', `${file.path} is not the file that was asked for; it was deleted`, {
      field: known.digest.kind === 'git' ? 'git SHA-1' : 'SHA-256',
      value: hex,
      allowed: known.digest.hex,
    });
  }
  await rename(part, target);
  await rm(`${part}.json`, { force: true });
}

/** Asks the hub for size and digest without the bytes. */
async function ask(endpoint: Endpoint, file: RemoteFile, signal: AbortSignal | undefined): Promise<Known> {
  const path = file.path.split('/').map(encodeURIComponent).join('/');
  const url = `${endpoint.url}/${file.repo}/resolve/${encodeURIComponent(file.revision)}/${path}`;
  const { response, hub } = await request(endpoint, url, { method: 'HEAD', stay: true, signal });
  const length =
    response.ok && !response.headers.get('content-encoding') ? response.headers.get('content-length') : null;
  const announced = hub.get('x-linked-size') ?? length;
  const size = announced === null ? file.size : Number(announced);
  if (size === undefined || !Number.isSafeInteger(size) || size < 0) {
    throw new KvasirError('download_failed', 'the hub does not say how big the file is', {
      field: 'file',
      value: file.path,
    });
  }
  if (file.size !== undefined && file.size !== size) {
    throw new KvasirError('checksum_mismatch', `the hub's ${file.path} has another size`, {
      field: 'bytes',
      value: size,
      allowed: String(file.size),
    });
  }
  const etag = hub.get('x-linked-etag') ?? hub.get('etag') ?? '';
  const digest = file.digest ?? digestOfEtag(etag) ?? null;
  return { url, size, etag, digest };
}

/** Bytes of an earlier attempt at the same file; whatever belongs to another is not used. */
async function partLength(part: string, known: Known): Promise<number> {
  const before = await readFile(`${part}.json`, 'utf8').catch(() => '');
  // Without any identity of the bytes a continued file could be half old and half new.
  if (before !== JSON.stringify(known) || (known.digest === null && known.etag === '')) return 0;
  const size = await stat(part).then(
    found => found.size,
    () => 0,
  );
  return size <= known.size ? size : 0;
}

/** True where the part must be thrown away: the answer does not start where it ends. */
function checkRange(response: Response, have: number, size: number): boolean {
  if (response.status === 416) return true;
  if (response.status !== 206) return false;
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
  return !match || Number(match[1]) !== have || (match[3] !== '*' && Number(match[3]) !== size);
}

/** The body piece by piece; a silence longer than the time-out ends it. */
async function* pieces(
  endpoint: Endpoint,
  response: Response,
  controller: AbortController,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  let silent = false;
  const onSilence = () => {
    silent = true;
    controller.abort();
  };
  let timer = setTimeout(onSilence, endpoint.timeoutMs);
  try {
    for await (const piece of response.body ?? []) {
      clearTimeout(timer);
      yield piece;
      timer = setTimeout(onSilence, endpoint.timeoutMs);
    }
  } catch (error) {
    if (signal?.aborted) throw aborted(signal);
    if (silent) throw new TransientError(`no byte came for ${endpoint.timeoutMs / 1000} s`);
    throw new TransientError(`the connection broke (${reason(error)})`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** Refuses what cannot fit before a byte is asked for. */
export async function checkSpace(target: string, needed: number): Promise<void> {
  const disk = await statfs(dirname(target)).catch(() => undefined);
  if (disk && disk.bavail * disk.bsize < needed) throw diskFull(target, needed, disk.bavail * disk.bsize);
}

export function diskError(error: unknown, target: string, needed: number): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOSPC' || code === 'EDQUOT') return diskFull(target, needed, 0);
  return error;
}

function diskFull(target: string, needed: number, free: number): KvasirError {
  return new KvasirError('download_failed', 'not enough space on the disk', {
    field: 'KVASIR_CACHE',
    value: dirname(target),
    allowed: `a folder with ${needed} more bytes free (there are ${free}); what is on disk is kept for the next pull`,
  });
}
