import { MAX_ARENA_BYTES } from '../backend/cpu/arena.ts';
import { denseProvider } from '../backend/cpu/dense/index.ts';
import { setWasmFiles } from '../backend/cpu/dense/web.ts';
import { createKernels } from '../backend/cpu/kernels.ts';
import { KvasirError } from '../errors.ts';
import { openModel } from '../model/open.ts';
import { blobSource } from '../model/source.ts';
import type { ModelFile } from '../model/types.ts';
import type { Platform } from './platform.ts';

/** A browser tells its memory in powers of two up to 8 GiB, and not all of them tell. */
const GUESSED_GIB = 4;

/** @param ort URL of the folder that holds ONNX Runtime's .wasm and .mjs files */
export function browserPlatform(ort: string): Platform {
  setWasmFiles({
    wasm: new URL('ort-wasm-simd-threaded.wasm', ort).href,
    mjs: new URL('ort-wasm-simd-threaded.mjs', ort).href,
  });
  const channel = new MessageChannel();
  const { deviceMemory = GUESSED_GIB } = navigator as { deviceMemory?: number };
  return {
    cores: navigator.hardwareConcurrency,
    memoryBytes: deviceMemory * 2 ** 30,
    openModel: openUrl,
    profile: fetchProfile,
    denseProvider,
    createKernels: ({ threads, limit }) => createKernels({ threads, limit: Math.min(limit, MAX_ARENA_BYTES) }),
    // A timer would be held back to 4 ms; a message to oneself is not.
    breathe: () =>
      new Promise(resolve => {
        channel.port1.onmessage = () => resolve();
        channel.port2.postMessage(null);
      }),
  };
}

async function openUrl(url: string): Promise<ModelFile> {
  const response = await fetch(url).catch((cause: unknown) => {
    throw new KvasirError('download_failed', `${url} cannot be reached`, { field: 'path', value: url, cause });
  });
  if (!response.ok)
    throw new KvasirError('model_not_found', `${url} answered ${response.status}`, { field: 'path', value: url });
  return openModel(blobSource(await response.blob(), url.slice(url.lastIndexOf('/') + 1)));
}

/** A profile beside the model (model.gguf -> model.<kind>.json); undefined where there is none. */
async function fetchProfile(model: string, _fingerprint: string, kind: string): Promise<unknown> {
  const url = model.replace(/\.gguf$/, `.${kind}.json`);
  const response = url === model ? undefined : await fetch(url).catch(() => undefined);
  // Some servers answer what they do not have with a page.
  if (!response?.ok || !response.headers.get('content-type')?.includes('json')) return undefined;
  return response.json().catch((cause: unknown) => {
    throw new KvasirError('bad_model_file', `the profile ${url} is not valid JSON`, { field: kind, value: url, cause });
  });
}
