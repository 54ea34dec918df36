import { HubApiError, type ListFileEntry, listFiles } from '@huggingface/hub';
import { KvasirError } from '../../errors.ts';
import type { Digest } from './digest.node.ts';
import { type Endpoint, request, retrying, TransientError } from './http.node.ts';
import { checkFilePath, formatHubId, type HubId } from './hub-id.ts';

/** A file that a model needs, as the hub lists it. */
export interface ListedFile {
  readonly path: string;
  readonly size: number;
  readonly digest: Digest;
}

export interface Selection {
  readonly kind: 'gguf' | 'folder';
  readonly files: readonly ListedFile[];
}

const MAX_FILES = 10_000;
const MAX_PAGES = 100;
const MAX_LISTING_BYTES = 16 << 20;

/** Beside the weights, what a Hugging Face folder may say of its model. */
const FOLDER_FILES = new Set([
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'chat_template.json',
  'model.safetensors.index.json',
]);

/** Asks the hub which files a repository has. */
export async function listRepo(endpoint: Endpoint, id: HubId, signal?: AbortSignal): Promise<ListedFile[]> {
  return retrying(endpoint, signal, async () => {
    const found: ListedFile[] = [];
    let pages = 0;
    try {
      const entries = listFiles({
        repo: { type: 'model', name: id.repo },
        revision: encodeURIComponent(id.revision),
        recursive: true,
        hubUrl: endpoint.url,
        fetch: (input, init) => {
          if (++pages > MAX_PAGES) throw new KvasirError('download_failed', "the hub's list of files has no end");
          return listing(endpoint, String(input), init?.headers, signal);
        },
      });
      for await (const entry of entries) {
        if (entry.type !== 'file') continue;
        if (found.length === MAX_FILES) {
          throw new KvasirError('unsupported', 'the repository has too many files', {
            field: 'model',
            value: id.repo,
            allowed: `${MAX_FILES}`,
          });
        }
        found.push(listed(entry));
      }
    } catch (error) {
      if (error instanceof TransientError || error instanceof KvasirError) throw error;
      if (error instanceof HubApiError) throw new KvasirError('download_failed', error.message, { cause: error });
      throw new KvasirError('download_failed', `the hub's list of files cannot be read: ${(error as Error).message}`, {
        field: 'model',
        value: id.repo,
        cause: error,
      });
    }
    return found;
  });
}

/** The hub library's requests, through our limits on time, redirects and size. */
async function listing(
  endpoint: Endpoint,
  url: string,
  headers: HeadersInit | undefined,
  signal: AbortSignal | undefined,
): Promise<Response> {
  const { response, controller } = await request(endpoint, url, {
    headers: Object.fromEntries(new Headers(headers)),
    signal,
  });
  const timer = setTimeout(() => controller.abort(), endpoint.timeoutMs);
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const piece of response.body ?? []) {
      bytes += piece.length;
      if (bytes > MAX_LISTING_BYTES)
        throw new KvasirError('download_failed', "the hub's list of files is longer than 16 MiB");
      pieces.push(piece);
    }
  } catch (error) {
    if (error instanceof KvasirError) throw error;
    throw new TransientError("the hub's list of files broke off", { cause: error });
  } finally {
    clearTimeout(timer);
  }
  return new Response(Buffer.concat(pieces), { status: response.status, headers: response.headers });
}

function listed(entry: ListFileEntry): ListedFile {
  checkFilePath(entry.path);
  const size = entry.lfs?.size ?? entry.size;
  const hex = entry.lfs?.oid ?? entry.oid ?? '';
  if (!Number.isSafeInteger(size) || size < 0 || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hex)) {
    throw new KvasirError('download_failed', 'the hub lists a file without its size or digest', {
      field: 'file',
      value: entry.path,
    });
  }
  return { path: entry.path, size, digest: { kind: hex.length === 64 ? 'sha256' : 'git', hex } };
}

/** Which files make the model: the named GGUF, else a Hugging Face folder, else the only GGUF. */
export function selectFiles(id: HubId, files: readonly ListedFile[]): Selection {
  const ggufs = files.filter(file => file.path.toLowerCase().endsWith('.gguf'));
  const choices = ggufs.map(file => formatHubId({ ...id, file: file.path }));
  if (id.file !== undefined) {
    const file = ggufs.find(entry => entry.path === id.file);
    if (!file) {
      throw new KvasirError('model_not_found', 'the repository has no such file', {
        field: 'model',
        value: formatHubId(id),
        allowed: choices.length > 0 ? choices : 'a repository with .gguf files',
      });
    }
    if (/-\d{5}-of-\d{5}\.gguf$/i.test(file.path)) {
      throw new KvasirError('unsupported', 'a GGUF split over several files is not supported', {
        field: 'model',
        value: file.path,
      });
    }
    return { kind: 'gguf', files: [file] };
  }
  const folder = selectFolder(files);
  if (folder) return { kind: 'folder', files: folder };
  if (ggufs.length === 1) return { kind: 'gguf', files: ggufs };
  if (ggufs.length > 1) {
    throw new KvasirError('invalid_request', 'the repository has several GGUF files; name one', {
      field: 'model',
      value: formatHubId(id),
      allowed: choices,
    });
  }
  throw new KvasirError('unsupported', 'the repository holds no model that can be read', {
    field: 'model',
    value: formatHubId(id),
    allowed: 'a .gguf file, or config.json, tokenizer.json and *.safetensors',
  });
}

function selectFolder(files: readonly ListedFile[]): ListedFile[] | undefined {
  const names = new Set(files.map(file => file.path));
  if (!names.has('config.json') || !names.has('tokenizer.json')) return undefined;
  let weights = files.filter(file => /^model(-\d+-of-\d+)?\.safetensors$/.test(file.path));
  if (weights.length === 0) weights = files.filter(file => /^[^/]+\.safetensors$/.test(file.path));
  if (weights.length === 0) return undefined;
  return [...files.filter(file => FOLDER_FILES.has(file.path)), ...weights];
}
