/**
 * npm run compare:readme, npm run compare:smollm2: `kvasir compare` at a size that two cores do in under 20 minutes. The bundled
 * model's table goes into README.md and its pictures into docs/images, SmolLM2's table into docs/compare.md, the results of both into
 * bench/results.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { smolLm2 } from '../bench/lib/models.ts';
import type { CompareResult } from '../src/eval/compare/result.ts';
import { compareTable, took } from '../src/eval/compare/table.ts';
import { markdown } from '../src/eval/report.ts';
import { hasChromium, reportPictures } from './pictures.ts';
import { ROOT, step } from './steps.ts';

const [which = 'kvasir-mini'] = process.argv.slice(2);
const sizes: Record<string, readonly string[]> = {
  'kvasir-mini': ['--length', '4096', '--steps', '128', '--tasks', 'niah-number,niah-multikey,vt-1x4', '--n', '4'],
  smollm2: ['--length', '8000', '--steps', '64', '--rounds', '1'],
};
const size = sizes[which];
if (!size) throw new Error(`"${which}" is no model of this script; allowed: ${Object.keys(sizes).join(', ')}`);
const model = which === 'smollm2' ? await smolLm2() : which;
if (!model) throw new Error('no SmolLM2: `kvasir pull smollm2-135m` fetches it, or KVASIR_SMOLLM2 names its GGUF');

const out = join(ROOT, 'bench/results', `compare-${which}.json`);
const html = join(ROOT, 'build', `compare-${which}.html`);
await step(process.execPath, [
  'src/cli/bin.ts',
  'compare',
  '--model',
  model,
  ...size,
  '--fresh',
  '--out',
  out,
  '--html',
  html,
]);

const result = JSON.parse(await readFile(out, 'utf8')) as CompareResult;
const { head, rows } = compareTable(result);
const code = rows.map(([recipe, ...cells]) => [`\`${recipe}\``, ...cells.map(String)]);
const { promptTokens, n } = result.plan;
const { cores } = result.run.machine;
const measured = markdown({ head, rows: code });
if (which === 'kvasir-mini') {
  const what = `kvasir-mini, ${promptTokens} tokens of a bundled book, ${n} instances a task, ${cores} cores (\`npm run compare:readme\` ${took(result)}):`;
  const picture = '![Quality against bytes](docs/images/compare.png)';
  await between('README.md', 'compare:readme', [what, measured, picture].join('\n\n'));
  if (hasChromium()) await reportPictures(html);
} else {
  const what = `SmolLM2-135M-Instruct, ${promptTokens} tokens of a bundled book, ${cores} cores (\`npm run compare:smollm2\` ${took(result)}):`;
  await between('docs/compare.md', 'compare:smollm2', [what, measured].join('\n\n'));
}

/** Puts a text between the marks `<!-- name -->` and `<!-- /name -->` of a page. */
async function between(page: string, name: string, text: string): Promise<void> {
  const path = join(ROOT, page);
  const old = await readFile(path, 'utf8');
  const marks = new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*(<!-- /${name} -->)`);
  if (!marks.test(old)) throw new Error(`${page} has no marks of ${name}`);
  await writeFile(
    path,
    old.replace(marks, (_, from, to) => `${from}\n${text}\n\n${to}`),
  );
}
