import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BINS } from '../prompt.ts';
import type { CompareResult, CompareRow } from '../result.ts';
import { embedded, escaped } from './html.ts';
import { paretoFront, spread, ticks } from './plots.ts';
import { compareReport } from './report.ts';

const EVIL = '</script><img src=x onerror="console.log(1)"> & \'quoted\'';

function row(recipe: string, share: number, agreement: number): CompareRow {
  const lengths = Array.from({ length: 2 }, () => Array(2).fill(100 * share) as number[]);
  return {
    recipe,
    quality: {
      ...{ count: 8, agreement, kl: 1 - agreement, logitError: 0, lengths },
      ...{ held: share * 1e7, heldAfter: share * 1e7, peak: share * 2e7, parked: 0 },
      map: lengths.map(heads => heads.map(length => (length === 100 ? 'ff' : '40').repeat(BINS))),
      answer: `An answer of ${recipe === 'full' ? EVIL : recipe}`,
      answerTokens: 8,
    },
    speed: [64, 256].map(context => ({
      context,
      firstTokenMs: context,
      tokensPerSecond: 1000 / (context * share + 1),
    })),
    tasks: [
      { task: 'good', right: recipe === 'full' ? 4 : 2, n: 4 },
      { task: 'weak', right: 1, n: 4 },
    ],
  };
}

const result: CompareResult = {
  kvasir: 'compare',
  version: 1,
  run: {
    ...{ date: '2026-01-01', commit: 'abc', dirty: false, arguments: ['compare', EVIL], versions: { node: '24' } },
    ...{ seconds: 1, reused: 0 },
    machine: { cpu: 'cpu', cores: 2, memoryBytes: 1, system: 'linux', loadAverage: 0 },
  },
  model: { name: 'model', fingerprint: 'f'.repeat(64), parameters: 1e6, layers: 2, kvHeads: 2 },
  plan: {
    ...{ text: EVIL, question: EVIL, promptTokens: 100, taken: 90, whole: 120, steps: 8, n: 4, seed: 0, rounds: 1 },
    tasks: [
      { name: 'good', title: 'Good' },
      { name: 'weak', title: 'Weak' },
    ],
  },
  bins: Array.from({ length: BINS }, (_, bin) => (bin === 0 ? EVIL : `place ${bin}`)),
  rows: [
    row('full', 1, 1),
    row('snapkv(keep=0.25)', 0.25, 0.9),
    row('kivi(bits=4)', 0.25, 0.97),
    { recipe: 'kvquant', failed: `no profile ${EVIL}`, speed: [], tasks: [] },
  ],
};

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const missing = existsSync(CHROMIUM) ? '' : ` (skipped: no Chromium at ${CHROMIUM})`;

describe.skipIf(missing !== '')(`the report in Chromium${missing}`, () => {
  let browser: Browser;
  let folder: string;
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
    folder = await mkdtemp(join(tmpdir(), 'kvasir-report-'));
    await writeFile(join(folder, 'report.html'), compareReport(result));
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    await rm(folder, { recursive: true });
  });

  test.each([
    [360, 'light'],
    [360, 'dark'],
    [1280, 'light'],
    [1600, 'dark'],
  ] as const)('%d px, %s: all is shown, nothing overflows, nothing is fetched or run', async (width, colorScheme) => {
    const page = await browser.newPage({ viewport: { width, height: 800 }, colorScheme });
    const problems: string[] = [];
    page.on('console', message => problems.push(message.text()));
    page.on('pageerror', error => problems.push(error.message));
    page.on('request', request => {
      if (!request.url().endsWith('report.html')) problems.push(request.url());
    });
    await page.goto(`file://${folder}/report.html`);
    for (const name of ['Table', 'Quality against bytes', 'Memory and speed', 'Which tokens each head kept', 'Answers'])
      expect(await page.getByRole('heading', { name, exact: true }).isVisible()).toBe(true);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBe(0);
    // Literal, in the text, the table and the answers.
    expect(await page.locator('.answers .text').first().textContent()).toBe(`An answer of ${EVIL}`);
    expect(await page.locator('p.wrong').textContent()).toContain(EVIL);
    expect(await page.locator('td.grey').allTextContents()).toEqual(['1/4', '1/4', '1/4', '']);
    expect(await page.locator('.answers mark').count()).toBe(2);

    const pixel = () =>
      page.locator('#map').evaluate(canvas => {
        const { data } = (canvas as HTMLCanvasElement).getContext('2d')!.getImageData(1, 0, 1, 1);
        return Array.from(data).join();
      });
    const before = await pixel();
    await page.locator('#map').focus();
    await page.keyboard.press('ArrowRight');
    expect(await page.locator('#under').textContent()).toBe('layer 0, KV head 0 keeps 25 % of “place 1”');
    await page.keyboard.press('ArrowLeft');
    expect(await page.locator('#under').textContent()).toContain(EVIL);
    await page.getByLabel('Recipe').selectOption('full');
    expect(await pixel()).not.toBe(before);
    const paper = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const first = await paper();
    await page.getByRole('button', { name: 'Light or dark' }).click();
    expect(await paper()).not.toBe(first);
    expect(problems).toEqual([]);
    await page.close();
  });
});

test('escaping leaves no way out of an element, an attribute or a script', () => {
  expect(escaped(EVIL)).not.toMatch(/[<>"']/);
  expect(JSON.parse(embedded({ EVIL }))).toEqual({ EVIL });
  expect(embedded({ EVIL })).not.toContain('<');
});

test('the front holds what no other beats in both', () => {
  const point = (name: string, x: number, y: number) => ({ name, x, y });
  const points = [point('a', 4, 90), point('b', 2, 90), point('c', 1, 50), point('d', 3, 80), point('e', 5, 100)];
  expect(paretoFront(points).map(({ name }) => name)).toEqual(['c', 'b', 'e']);
  expect(paretoFront([])).toEqual([]);
});

test.each([
  [0, 1],
  [85.3, 100],
  [0, 0],
  [5, 5],
  [0, 37.6],
])('ticks span %d to %d in even steps', (least, most) => {
  const marks = ticks(least, most);
  expect(marks[0]!).toBeLessThanOrEqual(least);
  expect(marks.at(-1)!).toBeGreaterThanOrEqual(most);
  expect(marks.length).toBeGreaterThan(1);
  expect(marks.length).toBeLessThan(9);
});

test('labels stand apart, in their order, within the frame', () => {
  const ys = spread([{ y: 50 }, { y: 52 }, { y: 51 }, { y: 99 }, { y: 100 }], 10, 0, 100).map(({ y }) => y);
  const sorted = [...ys].sort((a, b) => a - b);
  for (let i = 1; i < sorted.length; i++) expect(sorted[i]! - sorted[i - 1]!).toBeGreaterThanOrEqual(10);
  expect(Math.max(...ys)).toBeLessThanOrEqual(100);
  expect(ys[0]!).toBeLessThan(ys[2]!);
});
