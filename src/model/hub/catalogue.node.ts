import { readdir, stat } from 'node:fs/promises';
import { basename, join, resolve as resolvePath } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KvasirError } from '../../errors.ts';
import type { Catalogue, CatalogueEntry, Found } from '../catalogue.ts';
import { findAlias } from './aliases.ts';
import { cacheDir } from './cache-dir.node.ts';
import { listShelved } from './shelf.node.ts';

/** Models that come with the package; this file lies three folders deep in the repository (src) and in the package (dist). */
const BUNDLED = fileURLToPath(new URL('../../../models/', import.meta.url));

export interface CatalogueOptions {
  /** Default see `cacheDir`. */
  readonly cache?: string;
  /** Folder of bundled models; default the package's. */
  readonly bundled?: string;
  /** More models by path, named by their file name. */
  readonly paths?: readonly string[];
}

/** Bundled models, then pulled ones, then those given by path; the first of a name counts. */
export function nodeCatalogue(options: CatalogueOptions = {}): Catalogue {
  const list = async (): Promise<CatalogueEntry[]> => {
    const bundled = await bundledModels(options.bundled ?? BUNDLED);
    const pulled = (await listShelved(options.cache ?? cacheDir())).map(model => ({
      name: model.name,
      path: model.path,
      kind: model.kind,
      bytes: model.bytes,
      bundled: false,
      source: model.source,
    }));
    const given = await Promise.all((options.paths ?? []).map(path => modelAt(path)));
    const seen = new Set<string>();
    return [...bundled, ...pulled, ...given].filter(entry => !seen.has(entry.name) && seen.add(entry.name));
  };
  const resolve = async (name: string): Promise<Found> => {
    const entries = await list();
    const entry = entries.find(found => found.name === name);
    if (entry) return { name, path: entry.path };
    const alias = findAlias(name);
    throw new KvasirError(
      'model_not_found',
      alias ? `this model is not here yet: kvasir pull ${name}` : 'no such model',
      {
        field: 'model',
        value: name,
        allowed: entries.map(found => found.name),
      },
    );
  };
  return { list, resolve };
}

/**
 * What a person means by a model: a name of the catalogue, else a path of a GGUF file or a Hugging Face folder.
 * A name that looks like a path and leads nowhere gets an error about the path.
 */
export async function resolveModel(catalogue: Catalogue, model: string): Promise<Found> {
  if ((await catalogue.list()).some(entry => entry.name === model)) return catalogue.resolve(model);
  const isPath = /^(\.{0,2}|~)[/\\]/.test(model) || /\.gguf$/i.test(model);
  const exists = await stat(model).then(
    () => true,
    () => false,
  );
  if (!isPath && !exists) return catalogue.resolve(model);
  const entry = await modelAt(model);
  return { name: entry.name, path: entry.path };
}

/** Raises `model_not_found` where there is nothing, `bad_model_file` where there is something else. */
async function modelAt(given: string): Promise<CatalogueEntry> {
  const path = resolvePath(given);
  const found = await stat(path).catch(() => undefined);
  if (!found) {
    throw new KvasirError('model_not_found', 'there is no such file or folder', { field: 'model', value: given });
  }
  const entry = { name: basename(path).replace(/\.gguf$/i, ''), path, bundled: false, source: path };
  if (found.isFile()) {
    if (!/\.gguf$/i.test(path)) refuse(given, 'not a model file');
    return { ...entry, kind: 'gguf', bytes: found.size };
  }
  const files = await readdir(path);
  if (!files.includes('config.json') || !files.some(file => file.endsWith('.safetensors'))) {
    refuse(given, 'not a model folder');
  }
  const sizes = await Promise.all(files.map(async file => stat(join(path, file))));
  return { ...entry, kind: 'folder', bytes: sizes.reduce((sum, file) => sum + (file.isFile() ? file.size : 0), 0) };
}

function refuse(value: string, message: string): never {
  throw new KvasirError('bad_model_file', message, {
    field: 'model',
    value,
    allowed: 'a .gguf file, or a folder with config.json and *.safetensors',
  });
}

async function bundledModels(folder: string): Promise<CatalogueEntry[]> {
  const files = (await readdir(folder).catch(() => [])).filter(file => file.endsWith('.gguf')).sort();
  return Promise.all(
    files.map(async file => ({
      name: basename(file, '.gguf'),
      path: join(folder, file),
      kind: 'gguf' as const,
      bytes: (await stat(join(folder, file))).size,
      bundled: true,
      source: 'bundled',
    })),
  );
}
