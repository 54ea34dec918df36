import { readFileSync } from 'node:fs';

/** The package's version; package.json lies two folders up from here in the repository (src) and in the package (dist). */
export function version(): string {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return version;
}
