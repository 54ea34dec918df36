import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { KvasirError } from '../errors.ts';

/** Two folders up from here in the repository (src) and in the package (dist). */
const FOLDER = fileURLToPath(new URL('../../corpus/', import.meta.url));

/** The bundled texts, by file name; raises `unsupported` where the corpus is not there. */
export async function bundledCorpus(): Promise<string[]> {
  const files = (await readdir(FOLDER).catch(() => [])).filter(file => file.endsWith('.txt')).sort();
  if (files.length === 0)
    throw new KvasirError(
      'unsupported',
      'the corpus is not part of the package: evaluate in a clone of the repository',
      {
        field: 'corpus',
      },
    );
  return Promise.all(files.map(file => readFile(`${FOLDER}${file}`, 'utf8')));
}
