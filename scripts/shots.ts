/**
 * npm run shots: the pictures in docs/images, of the report (bench/results/compare-kvasir-mini.json, or a file of
 * `kvasir compare --out`) and of the built page. `page` or `report` before the file makes those alone.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { compareReport } from '../src/eval/compare/report/report.ts';
import { type CompareResult, RESULT_VERSION } from '../src/eval/compare/result.ts';
import { hasChromium, pagePictures, reportPictures } from './pictures.ts';
import { ROOT } from './steps.ts';

const [what, path = join(ROOT, 'bench/results/compare-kvasir-mini.json')] = process.argv.slice(2);
if (!hasChromium()) process.exit(1);
if (what !== 'page') {
  const result = JSON.parse(await readFile(path, 'utf8')) as CompareResult;
  if (result.version !== RESULT_VERSION)
    throw new Error(`${path} is of version ${result.version}, not ${RESULT_VERSION}: npm run compare:readme makes it`);
  const html = join(ROOT, 'build', 'shots-report.html');
  await mkdir(join(ROOT, 'build'), { recursive: true });
  await writeFile(html, compareReport(result));
  await reportPictures(html);
}
if (what !== 'report') await pagePictures();
