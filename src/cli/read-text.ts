import { readFile } from 'node:fs/promises';
import { KvasirError } from '../errors.ts';

/** A file as text. @throws KvasirError `invalid_request` naming `field` where it cannot be read or is no UTF-8 */
export async function readText(field: string, path: string): Promise<string> {
  const refused = (message: string, cause: unknown) =>
    new KvasirError('invalid_request', message, { field, value: path, allowed: 'a file of UTF-8 text', cause });
  const bytes = await readFile(path).catch((cause: Error) => {
    throw refused(`the file cannot be read: ${cause.message}`, cause);
  });
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw refused('the file is no text', cause);
  }
}
