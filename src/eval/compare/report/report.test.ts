import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BINS } from '../prompt.ts';
import type { CompareResult, CompareRow } from '../result.ts';
import { agreementPlot, bestOf } from './against-bytes.ts';
import { embedded, escaped } from './html.ts';
import { placeLabels, spread } from './place.ts';
import { paretoFront, ticks } from './plots.ts';
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
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    await rm(folder, { recursive: true });
  });

  /** A page of this report; `problems` gathers whatever it logs, raises or asks for. */
  async function open(result: CompareResult, width: number, colorScheme: 'light' | 'dark') {
    const page = await browser.newPage({ viewport: { width, height: 800 }, colorScheme });
    const problems: string[] = [];
    page.on('console', message => problems.push(message.text()));
    page.on('pageerror', error => problems.push(error.message));
    page.on('request', request => {
      if (!request.url().endsWith('report.html')) problems.push(request.url());
    });
    await writeFile(join(folder, 'report.html'), compareReport(result));
    await page.goto(`file://${folder}/report.html`);
    return { page, problems };
  }
  const overflow = (page: Page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

  test.each([
    [360, 'light'],
    [360, 'dark'],
    [1280, 'light'],
    [1600, 'dark'],
  ] as const)('%d px, %s: all is shown, nothing overflows, nothing is fetched or run', async (width, colorScheme) => {
    const { page, problems } = await open(result, width, colorScheme);
    for (const name of ['Table', 'Quality against bytes', 'Memory and speed', 'Which tokens each head kept', 'Answers'])
      expect(await page.getByRole('heading', { name, exact: true }).isVisible()).toBe(true);
    expect(await overflow(page)).toBe(0);
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

  test.each([390, 1280])('%d px: plots fill their boxes with text that can be read', async width => {
    const { page } = await open(result, width, 'light');
    const plots = page.locator('svg.plot');
    expect(await plots.count()).toBe(3);
    for (const plot of await plots.all()) {
      const { own, box, least, out } = await plot.evaluate(svg => {
        const frame = svg.getBoundingClientRect();
        const texts = [...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect());
        return {
          own: frame.width,
          box: svg.parentElement!.clientWidth,
          least: Math.min(...texts.map(({ height }) => height)),
          out: texts.filter(({ left, right }) => left < frame.left - 1 || right > frame.right + 1).length,
        };
      });
      expect(own).toBeLessThanOrEqual(box);
      expect(own).toBeGreaterThan(0.85 * box);
      expect(least).toBeGreaterThan(10);
      expect(out).toBe(0);
    }
    await page.close();
  });

  test('390 px: the table scrolls under its recipes, with numbers in view and a cue', async () => {
    const { page } = await open(result, 390, 'light');
    const table = page.getByRole('region', { name: 'Table' });
    const first = table.locator('tbody td').first();
    const before = (await first.boundingBox())!;
    const second = (await table.locator('tbody tr').first().locator('td').nth(2).boundingBox())!;
    expect(second.x + second.width).toBeLessThan(390);
    expect(await table.evaluate(element => element.scrollWidth > element.clientWidth)).toBe(true);
    expect(await table.evaluate(element => getComputedStyle(element).backgroundAttachment)).toContain('local');
    await table.evaluate(element => element.scrollTo(1000, 0));
    expect((await first.boundingBox())!.x).toBe(before.x);
    await page.close();
  });

  test('where nothing was measured the report says why, and its button works', async () => {
    const rows = result.rows.map(({ recipe }) => ({ recipe, failed: `no room for ${recipe}`, speed: [], tasks: [] }));
    const { page, problems } = await open({ ...result, rows }, 390, 'light');
    expect(await page.locator('p.wrong').allTextContents()).toEqual([
      ...rows.map(({ recipe, failed }) => `${recipe}: ${failed}`),
      'Nothing was measured.',
    ]);
    expect(await page.locator('svg, #map').count()).toBe(0);
    const paper = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const before = await paper();
    await page.getByRole('button', { name: 'Light or dark' }).click();
    expect(await paper()).not.toBe(before);
    expect(await overflow(page)).toBe(0);
    expect(problems).toEqual([]);
    await page.close();
  });

  test.each([
    ['only renumbered entries', (each: CompareRow) => ({ ...each, quality: { ...each.quality!, map: null } })],
    ['no full cache', (each: CompareRow) => (each.recipe === 'full' ? { ...result.rows[3]!, recipe: 'full' } : each)],
    ['no speed', (each: CompareRow) => ({ ...each, speed: [] })],
  ])('a report of %s raises nothing', async (_, changed) => {
    const { page, problems } = await open({ ...result, rows: result.rows.slice(0, 3).map(changed) }, 390, 'dark');
    await page.getByRole('button', { name: 'Light or dark' }).click();
    expect(await page.getByRole('heading', { name: 'Answers' }).isVisible()).toBe(true);
    expect(problems).toEqual([]);
    await page.close();
  });
});

test('labels cover neither one another nor a point, and stay near their own', () => {
  const frame = { left: 46, right: 400, top: 16, bottom: 246 };
  for (let round = 0; round < 50; round++) {
    // Half of the points lie on a few spots, as recipes of one size do.
    const points = Array.from({ length: 12 }, (_, i) => ({
      x: i % 2 ? 120 + 4 * Math.random() : 46 + 340 * Math.random(),
      y: i % 3 ? 30 : 30 + 216 * Math.random(),
      text: String(i + 1),
    }));
    const labels = placeLabels(points, frame);
    const size = (i: number) => 4 * points[i]!.text.length + 1;
    labels.forEach((label, i) => {
      expect(Math.hypot(label.x - points[i]!.x, label.y - points[i]!.y)).toBeLessThan(64);
      expect(label.y).toBeGreaterThan(frame.top);
      for (let j = 0; j < i; j++)
        expect(
          Math.abs(label.x - labels[j]!.x) >= size(i) + size(j) || Math.abs(label.y - labels[j]!.y) >= 12,
          `labels ${i} and ${j}`,
        ).toBe(true);
    });
  }
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

test('a plot of agreement tells its points, its axes and its front, and nothing over all', () => {
  const outcome = (number: number, name: string, mebibytes: number, share: number) => ({
    ...{ number, name, share },
    bytes: mebibytes * 2 ** 20,
  });
  const outcomes = [outcome(1, 'full', 8, 1), outcome(2, EVIL, 2, 1), outcome(4, 'kivi', 1, 0.915)];
  const plot = agreementPlot(outcomes);
  expect(plot).toContain(
    `aria-label="Agreement against bytes. 1. full: 8 MiB, 100 %; 2. ${escaped(EVIL)}: 2 MiB, 100 %; 4. kivi: 1 MiB, 91.5 %"`,
  );
  expect(plot).not.toContain('<img');
  for (const axis of ['bytes held after the prompt, MiB', 'equal next tokens, %'])
    expect(plot).toContain(`>${axis}</text>`);
  expect(bestOf(outcomes).map(({ number }) => number)).toEqual([4, 2]);
  const marks = (text: string) => [...text.matchAll(/text-anchor="end">([^<]*)</g)].map(([, mark]) => Number(mark));
  expect(marks(plot)).toEqual([90, 92, 94, 96, 98, 100]);
  // One point, or all alike: the axis still ends at all, or begins at nothing.
  expect(marks(agreementPlot([outcome(1, 'full', 8, 1)]))).toEqual([95, 96, 97, 98, 99, 100]);
  expect(marks(agreementPlot([outcome(1, 'full', 8, 0)]))[0]).toBe(0);
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
