/**
 * Pictures of the page for the docs, taken of a real conversation: `node web/screenshots.ts`.
 * Needs the built page and Chromium (path in CHROMIUM, default /usr/bin/chromium).
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium, type Page } from 'playwright-core';
import { startEndToEnd } from '../src/serve/e2e.testing.ts';

const folder = fileURLToPath(new URL('../docs/images/', import.meta.url));
await mkdir(folder, { recursive: true });
await using real = await startEndToEnd();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox'],
});

async function answered(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Send' }).waitFor({ timeout: 120_000 });
}

const SIZES = [
  { name: 'wide', width: 1280, height: 800 },
  { name: 'narrow', width: 360, height: 740 },
];
for (const { name, width, height } of SIZES) {
  for (const colorScheme of ['light', 'dark'] as const) {
    const page = await browser.newPage({ viewport: { width, height }, colorScheme });
    const shoot = (what: string) => page.screenshot({ path: join(folder, `page-${what}-${name}-${colorScheme}.png`) });
    await page.goto(real.server.url);
    await page.getByRole('button', { name: 'What is 12 + 30?' }).and(page.locator(':enabled')).waitFor();
    await shoot('start');
    await page.getByRole('button', { name: 'My name is Otto' }).click();
    await answered(page);
    await page.getByRole('button', { name: 'What is my name?' }).click();
    await answered(page);
    await page.getByLabel('Message').fill('Tell me a story about a fox.');
    await page.keyboard.press('Enter');
    await answered(page);
    await shoot('chat');
    await page.getByRole('button', { name: 'New chat' }).click();
    await page.getByRole('button', { name: 'Find a pass key in 4,000 tokens' }).click();
    await answered(page);
    await shoot('passkey');
    await page.getByRole('button', { name: 'New chat' }).click();
    // Wide, the settings are always in view.
    if (width < 600) await page.getByRole('button', { name: 'Settings' }).click();
    await page.getByLabel('Cache recipe').fill('snapkv(keep=0.25, width=15) + kivi(bits=4)');
    if (width < 600) await page.getByRole('button', { name: 'Close' }).click();
    await page.getByRole('button', { name: 'Find a pass key in 4,000 tokens' }).click();
    await answered(page);
    await shoot('recipe');
    if (width < 600) {
      await page.getByRole('button', { name: 'Settings' }).click();
      await shoot('settings');
    }
    await page.getByRole('link', { name: 'Methods' }).click();
    await page.locator('.card').first().waitFor();
    await shoot('methods');
    await page.goto(`${real.server.url}/#compare/${encodeURIComponent('snapkv(keep=0.25, width=15)')}`);
    await page.getByRole('button', { name: 'Take a sample text' }).click();
    await page.getByRole('button', { name: 'Compare' }).and(page.locator(':enabled')).click();
    await page.getByText(' rows, ').waitFor({ timeout: 120_000 });
    await page.locator('.results').evaluate(results => results.scrollIntoView({ block: 'start' }));
    await shoot('compare');
    await page.close();
  }
}
await browser.close();
