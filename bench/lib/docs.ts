import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Puts what a benchmark found between `<!-- bench:name -->` and `<!-- /bench:name -->` of a page of docs/. */
export function intoDocs(page: string, name: string, text: string): void {
  const [begin, end] = [`<!-- bench:${name} -->`, `<!-- /bench:${name} -->`];
  const path = fileURLToPath(new URL(`../../docs/${page}`, import.meta.url));
  const old = readFileSync(path, 'utf8');
  const [from, to] = [old.indexOf(begin), old.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`docs/${page} has no ${begin} … ${end}`);
  writeFileSync(path, `${old.slice(0, from + begin.length)}\n\n${text}\n\n${old.slice(to)}`);
}
