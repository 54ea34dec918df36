import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { checkFilePath, folderName } from './hub-id.ts';

/** A model in the cache folder: `models/<name>/kvasir.json` beside `models/<name>/<version>/<files>`. */
export interface Pulled {
  readonly name: string;
  readonly kind: 'gguf' | 'folder';
  /** Where it came from, for people. */
  readonly source: string;
  /** Folder of this content. */
  readonly version: string;
  readonly files: readonly { readonly path: string; readonly size: number; readonly digest: string }[];
}

export interface Shelved extends Pulled {
  /** The GGUF file or the folder. */
  readonly path: string;
  readonly bytes: number;
}

const MANIFEST = 'kvasir.json';

/** Folder of one model's versions. */
export function shelfFolder(cache: string, name: string): string {
  return join(cache, 'models', folderName(name));
}

/** Makes a model visible, in one step, once all its files are in place; other versions of it are removed. */
export async function shelve(cache: string, pulled: Pulled): Promise<Shelved> {
  const folder = shelfFolder(cache, pulled.name);
  await mkdir(folder, { recursive: true });
  const temporary = join(folder, `${MANIFEST}.${randomUUID()}`);
  await writeFile(temporary, `${JSON.stringify(pulled, null, 2)}\n`);
  await rename(temporary, join(folder, MANIFEST));
  for (const entry of await readdir(folder)) {
    if (entry !== MANIFEST && entry !== pulled.version) await rm(join(folder, entry), { recursive: true, force: true });
  }
  return placed(folder, pulled);
}

/** The model of that name, if it is whole: every file there with its size. */
export async function findShelved(cache: string, name: string): Promise<Shelved | undefined> {
  return readShelf(shelfFolder(cache, name));
}

/** Every whole model, by name. */
export async function listShelved(cache: string): Promise<Shelved[]> {
  const root = join(cache, 'models');
  const folders = await readdir(root).catch(() => []);
  const found = await Promise.all(folders.map(folder => readShelf(join(root, folder))));
  return found.filter(entry => entry !== undefined).sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function readShelf(folder: string): Promise<Shelved | undefined> {
  try {
    const pulled = JSON.parse(await readFile(join(folder, MANIFEST), 'utf8')) as Pulled;
    if (typeof pulled.name !== 'string' || shelfName(folder) !== folderName(pulled.name)) return undefined;
    for (const file of pulled.files) {
      const found = await stat(join(folder, pulled.version, checkFilePath(file.path)));
      if (found.size !== file.size) return undefined;
    }
    return placed(folder, pulled);
  } catch {
    return undefined; // No manifest, a damaged one, or a file is gone: no whole model, which is all that is asked.
  }
}

function shelfName(folder: string): string {
  return folder.slice(Math.max(folder.lastIndexOf('/'), folder.lastIndexOf('\\')) + 1);
}

function placed(folder: string, pulled: Pulled): Shelved {
  const root = join(folder, pulled.version);
  return {
    ...pulled,
    path: pulled.kind === 'gguf' ? join(root, pulled.files[0]!.path) : root,
    bytes: pulled.files.reduce((sum, file) => sum + file.size, 0),
  };
}
