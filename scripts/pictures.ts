import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { startEndToEnd } from '../src/serve/e2e.testing.ts';
import { ROOT } from './steps.ts';

const IMAGES = join(ROOT, 'docs/images');
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** Of the page's comparison: one that fails, one that drops, one that codes, and two together. */
const RECIPES = [
  'random(keep=0.05)',
  'snapkv(keep=0.25, width=15)',
  'kivi(bits=4)',
  'snapkv(keep=0.25, width=15) + kivi(bits=4)',
];

const SIZES = [
  { size: 'wide', width: 1280, height: 800 },
  { size: 'narrow', width: 390, height: 844 },
];

/** Where Chromium is missing (CHROMIUM, default /usr/bin/chromium), says so. */
export function hasChromium(): boolean {
  if (existsSync(CHROMIUM)) return true;
  console.error(`no pictures: no Chromium at ${CHROMIUM}`);
  return false;
}

/** The top and the map of a report, wide and narrow, light and dark; and its plots for the README, docs/images/compare.png. */
export async function reportPictures(html: string): Promise<void> {
  await everyView(async (browser, shoot) => {
    const page = await browser();
    await page.goto(pathToFileURL(html).href);
    await shoot(page, 'report-top');
    const plots = page.locator('.plots').first();
    if (shoot.view === 'wide-light') await plots.screenshot({ path: join(IMAGES, 'compare.png') });
    await page
      .getByRole('heading', { name: 'Which tokens each head kept' })
      .evaluate(heading => heading.scrollIntoView());
    const recipes = await page.locator('#recipe option').allTextContents();
    const chosen = recipes.find(recipe => recipe.startsWith('snapkv'));
    if (chosen) await page.getByLabel('Recipe').selectOption(chosen);
    await page.locator('#map').focus();
    await page.keyboard.press('ArrowRight');
    await shoot(page, 'report-map');
  });
}

/** Chat, methods and a comparison of the page, of a real server with the bundled model. The page must be built. */
export async function pagePictures(): Promise<void> {
  await using real = await startEndToEnd();
  await everyView(async (browser, shoot) => {
    const page = await browser();
    await page.goto(real.server.url);
    await chat(page);
    await shoot(page, 'page-chat');
    // By a click: after a key or a new address the view that opens would bear the mark of the keyboard's focus.
    await page.getByRole('link', { name: 'Methods' }).click();
    await page.locator('.card').first().waitFor();
    await shoot(page, 'page-methods');
    await page.getByRole('link', { name: 'Compare' }).click();
    await page.getByLabel('Recipes').fill(RECIPES.join('\n'));
    await page.getByRole('button', { name: 'Take a sample text' }).click();
    await page.getByRole('button', { name: 'Compare' }).and(page.locator(':enabled')).click();
    await page.getByText(' rows, ').waitFor({ timeout: 240_000 });
    await page.locator('.state').evaluate(state => state.scrollIntoView());
    await shoot(page, 'page-compare');
  });
}

async function chat(page: Page): Promise<void> {
  const answered = () => page.getByRole('button', { name: 'Send' }).waitFor({ timeout: 240_000 });
  await page.getByRole('button', { name: 'My name is Otto' }).and(page.locator(':enabled')).click();
  await answered();
  await page.getByRole('button', { name: 'What is my name?' }).click();
  await answered();
  const narrow = page.viewportSize()!.width < 600;
  // Wide, the settings are always in view.
  if (narrow) await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByLabel('Cache recipe').fill('snapkv(budget=64, window=8) + kivi(bits=4)');
  if (narrow) await page.getByRole('button', { name: 'Close' }).click();
  await page.getByLabel('Message').fill('Tell me a story about a fox.');
  await page.keyboard.press('Enter');
  await answered();
}

/** Saves a picture of what is in view. */
interface Shoot {
  (page: Page, what: string): Promise<void>;
  readonly view: string;
}

async function everyView(use: (open: () => Promise<Page>, shoot: Shoot) => Promise<void>): Promise<void> {
  const browser: Browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  try {
    for (const { size, width, height } of SIZES)
      for (const colorScheme of ['light', 'dark'] as const) {
        const view = `${size}-${colorScheme}`;
        const context = await browser.newContext({ viewport: { width, height }, colorScheme });
        const shoot = async (page: Page, what: string): Promise<void> => {
          await page.screenshot({ path: join(IMAGES, `${what}-${view}.png`) });
        };
        await use(() => context.newPage(), Object.assign(shoot, { view }));
        await context.close();
      }
  } finally {
    await browser.close();
  }
}
