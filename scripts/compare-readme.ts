/**
 * npm run compare:readme, npm run compare:smollm2: `kvasir compare` at a size that two cores do in under 20 minutes. The bundled
 * model's table goes into README.md, its picture into docs/images, the results of both into bench/results.
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

if (which === 'kvasir-mini') {
  const result = JSON.parse(await readFile(out, 'utf8')) as CompareResult;
  const { head, rows } = compareTable(result);
  const code = rows.map(([recipe, ...cells]) => [`\`${recipe}\``, ...cells.map(String)]);
  const { promptTokens, n } = result.plan;
  const block = `kvasir-mini, ${promptTokens} tokens of a bundled book, ${n} instances a task, ${result.run.machine.cores} cores (\`npm run compare:readme\` ${took(result)}):

${markdown({ head, rows: code })}

![Quality against bytes](docs/images/compare.png)`;
  const readme = join(ROOT, 'README.md');
  const text = await readFile(readme, 'utf8');
  const marks = /(<!-- compare:readme -->\n)[\s\S]*(<!-- \/compare:readme -->)/;
  await writeFile(readme, text.replace(marks, `$1\n${block.replaceAll('$', '$$$$')}\n\n$2`));
  if (hasChromium()) await reportPictures(html);
}
