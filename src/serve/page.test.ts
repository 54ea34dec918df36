import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { build } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { METHODS } from '../methods/index.ts';
import type { Method } from '../methods/types.ts';
import { nodeCatalogue } from '../model/hub/catalogue.node.ts';
import { type EndToEnd, MISSING_MODEL, startEndToEnd, until } from './e2e.testing.ts';
import { serve } from './server.node.ts';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const TINY = fileURLToPath(new URL('../../test/models/qwen3', import.meta.url));
const missing = MISSING_MODEL || (existsSync(CHROMIUM) ? '' : ` (skipped: no Chromium at ${CHROMIUM})`);

describe.skipIf(missing !== '')(`the page in Chromium${missing}`, () => {
  let real: EndToEnd;
  let browser: Browser;
  beforeAll(async () => {
    await build({ configFile: fileURLToPath(new URL('../../web/vite.config.ts', import.meta.url)), logLevel: 'error' });
    real = await startEndToEnd([TINY]);
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    await real?.[Symbol.asyncDispose]();
  });

  /**
   * Opens the page and runs `use`; any error, any foreign request and anything on the console that `expected` does not tell of
   * fails the test. Chromium logs each answer that refuses.
   */
  async function onPage(
    options: { width: number; dark?: boolean; path?: string },
    use: (page: Page) => Promise<void>,
    expected?: RegExp,
  ) {
    const { width, dark = false, path = '/' } = options;
    const page = await browser.newPage({ viewport: { width, height: 760 }, colorScheme: dark ? 'dark' : 'light' });
    const problems: string[] = [];
    page.on('console', message => {
      if (!expected?.test(message.text())) problems.push(`${message.type()}: ${message.text()}`);
    });
    page.on('pageerror', error => problems.push(error.message));
    page.on('request', request => {
      if (!request.url().startsWith(real.server.url)) problems.push(`request to ${request.url()}`);
    });
    try {
      await page.goto(real.server.url + path);
      await page.getByRole('button', { name: 'What is 12 + 30?' }).and(page.locator(':enabled')).waitFor();
      await use(page);
      expect(problems).toEqual([]);
    } finally {
      await page.close();
    }
  }

  const overflow = (page: Page) =>
    page.evaluate(() => {
      const wide = [...document.querySelectorAll('body *')].filter(
        element => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest('.hidden'),
      );
      return { by: document.documentElement.scrollWidth - innerWidth, wide: wide.map(element => element.className) };
    });
  const meter = (page: Page, name: string) => page.locator(`[data-meter=${name}]`).textContent();
  const send = (page: Page) => page.getByRole('button', { name: 'Send' });

  /** Of two colours as computed styles have them. */
  function contrast(a: string, b: string): number {
    const luminance = (colour: string) => {
      const [red, green, blue] = colour.match(/[\d.]+/g)!.map(part => {
        const share = Number(part) / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
    };
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light! + 0.05) / (dark! + 0.05);
  }

  test.each([320, 360, 768, 1280, 1920])('type, send, read, at %d px', async width => {
    await onPage({ width, dark: width === 768 }, async page => {
      expect(await overflow(page)).toEqual({ by: 0, wide: [] });
      await page.getByLabel('Message').fill('What is 12 + 30?');
      await page.keyboard.press('Enter');
      await page.locator('.turn.assistant', { hasText: '42' }).waitFor();
      await send(page).waitFor();
      expect(await meter(page, 'rate')).toMatch(/^\d/);
      expect(await meter(page, 'first')).toMatch(/^\d.* m?s$/);
      expect(Number(await meter(page, 'prompt'))).toBeGreaterThan(5);
      expect(await meter(page, 'held')).toMatch(/ [KM]iB$/);
      expect(await meter(page, 'peak')).toMatch(/ [KM]iB$/);
      expect(await overflow(page)).toEqual({ by: 0, wide: [] });
    });
  });

  test('text streams, Stop ends the work, New chat empties the page', async () => {
    await onPage({ width: 1280 }, async page => {
      await page.getByLabel('Maximum tokens').fill('4000');
      await page.getByLabel('Temperature').fill('2');
      const answer = page.locator('.turn.assistant .text').last();
      const stopped = page.getByText('Stopped', { exact: true });
      // At this temperature a draw may end an answer before it can be stopped: then the next one is.
      for (let tries = 0; tries < 5 && (await stopped.count()) === 0; tries++) {
        await page.getByLabel('Message').fill('Tell me a story about a fox.');
        await send(page).click();
        const stop = page.getByRole('button', { name: 'Stop' });
        const lengths = new Set<number>();
        await until(async () => {
          lengths.add((await answer.textContent())!.length);
          return lengths.size > 4 || (await stop.count()) === 0;
        }, 'the text grows');
        await stop.click({ timeout: 1000 }).catch(() => {});
        await send(page).waitFor();
      }
      await stopped.waitFor();
      await until(async () => (await real.engine.stats()).running === 0, 'the engine is idle');
      await page.getByRole('button', { name: 'New chat' }).click();
      expect(await page.locator('.turn').count()).toBe(0);
    });
  });

  test('a conversation goes on over turns, by keyboard and suggestion', async () => {
    await onPage({ width: 1280 }, async page => {
      await page.getByRole('button', { name: 'My name is Otto and I live in Oslo.' }).click();
      await page.getByRole('button', { name: 'What is my name?' }).click();
      await page.locator('.turn.assistant', { hasText: 'Your name is Otto' }).waitFor();
      await page.getByLabel('Message').fill('line one');
      await page.keyboard.press('Shift+Enter');
      await page.keyboard.type('line two');
      await page.keyboard.press('Enter');
      expect(await page.locator('.turn.user').last().locator('.text').textContent()).toBe('line one\nline two');
      await page.keyboard.press('Escape');
      await send(page).waitFor();
    });
  });

  test('a hidden pass key is found, its long prompt is folded', async () => {
    await onPage({ width: 360 }, async page => {
      await page.getByRole('button', { name: 'Find a pass key in 1,000 tokens' }).click();
      const note = await page.locator('.note', { hasText: 'The hidden pass key is' }).textContent();
      await page.locator('.turn.assistant', { hasText: /\d+/.exec(note!)![0] }).waitFor();
      expect((await page.locator('.turn.user .text').textContent())!.length).toBeLessThan(600);
      await page.getByRole('button', { name: /^Show all/ }).click();
      expect((await page.locator('.turn.user .text').textContent())!.length).toBeGreaterThan(2000);
      expect(await overflow(page)).toEqual({ by: 0, wide: [] });
    });
  });

  test('the page says what the model is and how to get a better one', async () => {
    await onPage({ width: 1280 }, async page => {
      expect(await page.locator('.welcome').textContent()).toMatch(/no conversationalist/);
      expect(await page.locator('code', { hasText: 'pull' }).textContent()).toContain('pull smollm2-135m');
      expect(await page.locator('.models button[aria-pressed=true] .name').textContent()).toBe('kvasir-mini');
    });
  });

  test.each([320, 1280])('a recipe is told, checked, sent, and its cost shown, at %d px', async width => {
    await onPage({ width, dark: width === 320 }, async page => {
      if (width < 800) await page.getByRole('button', { name: 'Settings' }).click();
      const field = page.getByLabel('Cache recipe');
      await field.fill('snapvk');
      await page.getByText('There is no method snapvk.').waitFor();
      expect(await page.locator('datalist option').count()).toBe(METHODS.length);
      await field.fill('snapkv(budget=48, window=8) + kivi(bits=4, residual=64)');
      await page.getByText('Options: bits, group, residual.').waitFor();
      expect(await overflow(page)).toEqual({ by: 0, wide: [] });
      await page.getByLabel('Maximum tokens').fill('8');
      if (width < 800) await page.getByRole('button', { name: 'Close' }).click();
      await page.getByRole('button', { name: 'Find a pass key in 1,000 tokens' }).click();
      await send(page).waitFor();
      const cost = page.locator('.cost');
      expect(await cost.locator('code').textContent()).toMatch(/^snapkv\(budget=48, window=8\) \+ kivi\(.*bits=4/);
      expect(await cost.textContent()).toMatch(
        /[456]\d tokens kept\s+[\d.]+ [KM]iB of cache\s+[\d.]+ [KM]iB at the peak/,
      );
      expect(await overflow(page)).toEqual({ by: 0, wide: [] });
    });
  });

  test('a recipe that names no method is not sent', async () => {
    await onPage({ width: 1280 }, async page => {
      await page.getByLabel('Cache recipe').fill('snapvk');
      await page.getByRole('button', { name: 'What is 12 + 30?' }).click();
      await page.getByRole('alert').getByText('There is no method snapvk.').waitFor();
      expect(await page.locator('.turn').count()).toBe(0);
    });
  });

  test('a message that was refused, and one that is being written, stay to be sent', async () => {
    await onPage(
      { width: 1280 },
      async page => {
        const message = page.getByLabel('Message');
        const recipe = page.getByLabel('Cache recipe');
        await recipe.fill('snapvk');
        await message.fill('What is 12 + 30?');
        await page.keyboard.press('Enter');
        await page.getByRole('alert').getByText('There is no method snapvk.').waitFor();
        expect(await message.inputValue()).toBe('What is 12 + 30?');
        await page.getByRole('link', { name: 'Methods' }).click();
        await page.getByRole('link', { name: 'Chat' }).click();
        expect(await message.inputValue()).toBe('What is 12 + 30?');
        // This one only the server refuses.
        await recipe.fill('snapkv(window=9999999)');
        await message.press('Enter');
        await page.getByText('No answer').waitFor();
        expect(await message.inputValue()).toBe('What is 12 + 30?');
        await recipe.fill('');
        await message.press('Enter');
        await page.locator('.turn.assistant', { hasText: '42' }).waitFor();
        expect(await message.inputValue()).toBe('');
        expect(await page.getByRole('alert').count()).toBe(0);
      },
      /400/,
    );
  });

  test('another model is one click away, and answers', async () => {
    await onPage({ width: 1280 }, async page => {
      await page.getByRole('button', { name: /^qwen3/ }).click();
      await page.locator('.models button[aria-pressed=true]', { hasText: 'qwen3' }).waitFor();
      await page.getByLabel('Maximum tokens').fill('8');
      await page.getByLabel('Message').fill('hello');
      await page.keyboard.press('Enter');
      await page.locator('.turn.assistant').waitFor();
      await send(page).waitFor();
      expect(await page.locator('.error').count()).toBe(0);
      expect(await page.locator('.where').textContent()).toMatch(/^qwen3/);
    });
  });

  test('a server with a key asks for it', async () => {
    const server = await serve({ engine: real.engine, catalogue: nodeCatalogue(), port: 0, apiKey: 's3cret' });
    const page = await browser.newPage();
    try {
      await page.goto(server.url);
      await page.getByLabel('This server wants an API key').fill('s3cret');
      await page.getByRole('button', { name: 'Continue' }).click();
      await page.getByRole('button', { name: 'What is 12 + 30?' }).click();
      await page.locator('.turn.assistant', { hasText: '42' }).waitFor();
      expect(await page.getByLabel('This server wants an API key').count()).toBe(0);
    } finally {
      await page.close();
      await server.close();
    }
  });

  test('a server that has ended is told of, and nothing is lost', async () => {
    const server = await serve({ engine: real.engine, catalogue: nodeCatalogue(), port: 0 });
    const page = await browser.newPage();
    try {
      await page.goto(server.url);
      await page.getByRole('button', { name: 'What is 12 + 30?' }).and(page.locator(':enabled')).waitFor();
      await server.close();
      await page.getByLabel('Message').fill('What is 12 + 30?');
      await page.keyboard.press('Enter');
      await page.getByRole('alert').getByText('The server does not answer').waitFor();
      expect(await page.getByLabel('Message').inputValue()).toBe('What is 12 + 30?');
    } finally {
      await page.close();
      await server.close();
    }
  });

  test('the engine in the browser finds the profiles of the bundled model', async () => {
    await onPage({ width: 1280, path: '/local.html' }, async page => {
      for (const [i, kind] of ['razor-attention', 'kvquant'].entries()) {
        await page.getByLabel('Cache recipe').fill(kind);
        await page.getByLabel('Message').fill('What is 12 + 30?');
        await page.keyboard.press('Enter');
        await page.locator('.cost').nth(i).or(page.getByRole('alert')).waitFor();
        expect(await page.locator('.error').allTextContents()).toEqual([]);
        expect(await page.locator('.cost code').nth(i).textContent()).toContain(kind);
        await send(page).waitFor();
      }
    });
  });

  test('the engine in the browser itself answers, and sends nothing', async () => {
    await onPage({ width: 1280, path: '/local.html' }, async page => {
      const before = (await real.engine.stats()).totals.requests;
      await page.getByLabel('Message').fill('What is 12 + 30?');
      await page.keyboard.press('Enter');
      await page.locator('.turn.assistant', { hasText: '42' }).waitFor();
      await send(page).waitFor();
      expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
      expect(await meter(page, 'held')).toMatch(/ [KM]iB$/);
      expect((await real.engine.stats()).totals.requests).toBe(before);
    });
  });

  describe('the library of papers', () => {
    const cards = (page: Page) => page.locator('.card h3 code').allTextContents();

    test.each([320, 1280])('all methods are there, found by words and family, at %d px', async width => {
      await onPage({ width, dark: width === 320 }, async page => {
        await page.getByRole('link', { name: 'Methods' }).click();
        await page.getByText(`${METHODS.length} methods.`).waitFor();
        expect((await cards(page)).sort()).toEqual(METHODS.map(({ name }) => name).sort());
        expect(await page.getByText('The paper claims').first().isVisible()).toBe(true);
        expect(await overflow(page)).toEqual({ by: 0, wide: [] });
        await page.getByLabel('Search').fill('snapkv what you are looking for');
        expect(await cards(page)).toEqual(['snapkv']);
        const [snapkv] = await page.locator('.card').allTextContents();
        expect(snapkv).toMatch(/2024-04.*Measured here\s*snapkv holds [\d.]+ % of the bytes/s);
        await page.getByLabel('Search').fill('');
        await page.getByLabel('Family').selectOption('lowrank');
        expect(await cards(page)).toEqual(METHODS.filter(({ family }) => family === 'lowrank').map(({ name }) => name));
        await page.getByLabel('Search').fill('no such words');
        await page.getByText('No method matches.').waitFor();
      });
    });

    test('a method is tried on a text, beside the full cache', async () => {
      await onPage({ width: 360 }, async page => {
        await page.getByRole('link', { name: 'Methods' }).click();
        await page.locator('#method-tova').getByRole('link', { name: 'Try it on my text' }).click();
        expect(await page.getByLabel('Recipes').inputValue()).toMatch(/^tova\(keep=0.25\)\n/);
        await page.getByRole('button', { name: 'Compare' }).click();
        await page.getByRole('alert').getByText('Give a text').waitFor();
        await page.getByRole('button', { name: 'Take a sample text' }).click();
        const edited = '# half of it\ntova(keep=0.5) # not a quarter';
        await page.getByLabel('Recipes').fill('');
        await page.getByLabel('Recipes').pressSequentially(edited);
        expect(await page.getByLabel('Recipes').inputValue()).toBe(edited);
        await page.getByRole('button', { name: 'Compare' }).click();
        await page.getByText('2 rows,').waitFor({ timeout: 60_000 });
        expect(await page.locator('.results .card h3').allTextContents()).toEqual(['full', 'tova(keep=0.5)']);
        expect(await page.locator('.results .answer').first().textContent()).toContain('The pass key is');
        expect(await overflow(page)).toEqual({ by: 0, wide: [] });
      });
    });

    test('an address with a method shows its card, and a method without its profile may say so', async () => {
      await onPage({ width: 1280, path: '/' }, async page => {
        for (const name of ['kivi', 'streaming-llm']) {
          await page.goto(`${real.server.url}/#methods/${name}`);
          await page.reload();
          const card = page.locator(`#method-${name}`);
          await card.waitFor();
          await until(async () => Math.abs((await card.boundingBox())!.y) < 700, 'the card is in view');
          expect(await card.evaluate(element => element.getBoundingClientRect().top < innerHeight)).toBe(true);
        }
        const told = Object.fromEntries(
          METHODS.flatMap(({ name, profile, profileOptional }: Method) =>
            profile ? [[name, profileOptional ? 'Better with' : 'Needs']] : [],
          ),
        );
        expect(new Set(Object.values(told)).size).toBe(2);
        for (const [name, word] of Object.entries(told))
          expect(await page.locator(`#method-${name}`).textContent()).toContain(`${word} a profile`);
      });
    });

    test('what is asked outlives a reload; on a narrow page a run shows itself', async () => {
      await onPage({ width: 390 }, async page => {
        await page.getByRole('link', { name: 'Compare' }).click();
        await page.getByLabel('Text').fill('The gate opens at nine and closes at four. '.repeat(40));
        await page.getByLabel('Question').fill('When does it close?');
        await page.getByLabel('Recipes').fill('louiskv(place=memory)');
        await page.getByLabel('Tokens of an answer').fill('4');
        await page.reload();
        await page.getByRole('button', { name: 'Compare' }).and(page.locator(':enabled')).waitFor();
        expect(await page.getByLabel('Text').inputValue()).toContain('closes at four');
        expect(await page.getByLabel('Question').inputValue()).toBe('When does it close?');
        expect(await page.getByLabel('Recipes').inputValue()).toBe('louiskv(place=memory)');
        const [act, quiet] = await Promise.all(
          ['Compare', 'Take a sample text'].map(name => page.getByRole('button', { name }).boundingBox()),
        );
        expect(act!.height).toBe(quiet!.height);
        await page.getByRole('button', { name: 'Compare' }).click();
        const state = (await page.locator('.state').boundingBox())!;
        expect(state.y).toBeLessThan(760);
        await page.getByText('2 rows,').waitFor({ timeout: 60_000 });
        expect(await page.locator('.results .card').last().textContent()).toMatch(/Parked outside\s*[\d.]+ [KM]iB/);
        expect(await overflow(page)).toEqual({ by: 0, wide: [] });
      });
    });

    test.each([
      [390, true],
      [1280, false],
    ])('rows arrive in a plot of quality against bytes, at %d px (dark: %s)', async (width, dark) => {
      await onPage({ width, dark }, async page => {
        const recipes = ['random(keep=0.05)', 'kivi(bits=4)', 'gear(bits=3)'];
        await page.getByRole('link', { name: 'Compare' }).click();
        await page.getByRole('button', { name: 'Take a sample text' }).click();
        await page.getByLabel('Recipes').fill(recipes.join('\n'));
        await page.getByLabel('Tokens of an answer').fill('12');
        await page.getByRole('button', { name: 'Compare' }).click();
        // Before the end: the full cache's row is there, others are on their way.
        await page.locator('.plot .point').first().waitFor();
        expect(await page.getByRole('progressbar', { name: 'Comparison' }).count()).toBe(1);
        await page.getByText('4 rows,').waitFor({ timeout: 60_000 });
        const names = await page.locator('.results .card h3').allTextContents();
        expect(names).toHaveLength(4);
        expect(await page.locator('.legend li').allTextContents()).toEqual(names.map((name, i) => `${i + 1}. ${name}`));
        expect(await page.locator('.plot .point text').allTextContents()).toEqual(['1', '2', '3', '4']);
        const told = (await page.getByRole('img', { name: /^Agreement against bytes/ }).getAttribute('aria-label'))!;
        const points = told.replace(/^[^.]*\. /, '').split('; ');
        expect(points).toHaveLength(4);
        for (const [i, point] of points.entries()) {
          expect(point.startsWith(`${i + 1}. ${names[i]}: `)).toBe(true);
          expect(point).toMatch(/: [\d.]+ MiB, [\d.]+ %$/);
        }
        expect(await page.locator('.plot .axis').allTextContents()).toEqual([
          'bytes held after the prompt, MiB',
          'equal next tokens, %',
        ]);
        expect(await page.locator('.beside').textContent()).toMatch(/On the line, smallest first:\s*\d\. /);

        const looks = await page.locator('.plot').evaluate(svg => {
          const frame = svg.getBoundingClientRect();
          const paper = getComputedStyle(svg.closest('figure')!).backgroundColor;
          const fills = (of: string) => [...document.querySelectorAll(of)].map(each => getComputedStyle(each).fill);
          const texts = [...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect());
          return {
            ...{ paper, texts: fills('.plot text'), marks: fills('.plot .mark'), legend: fills('.legend .mark') },
            share: frame.width / svg.parentElement!.clientWidth,
            least: Math.min(...texts.map(({ height }) => height)),
            out: texts.filter(({ left, right }) => left < frame.left - 1 || right > frame.right + 1).length,
          };
        });
        expect(looks.share).toBeGreaterThan(0.85);
        expect(looks.least).toBeGreaterThan(10);
        expect(looks.out).toBe(0);
        expect(looks.marks).toEqual(looks.legend);
        expect(new Set(looks.marks).size).toBe(4);
        for (const fill of looks.texts) expect(contrast(fill, looks.paper)).toBeGreaterThan(4.5);
        for (const fill of looks.marks) expect(contrast(fill, looks.paper)).toBeGreaterThan(3);
        expect(await overflow(page)).toEqual({ by: 0, wide: [] });
      });
    });

    test.each([390, 1280])(
      'what cannot be compared is refused in view, and stays to be mended, at %d px',
      async width => {
        await onPage(
          { width },
          async page => {
            await page.getByRole('link', { name: 'Compare' }).click();
            await page.getByLabel('Question').fill('When does it close?');
            const recipes = '# mine\nkivi(bits=4)\nsnapkv(keep=2)';
            await page.getByLabel('Recipes').fill(recipes);
            const alert = page.getByRole('alert');
            const refused = async (why: string) => {
              await page.getByRole('button', { name: 'Compare' }).click();
              await alert.getByText(why).waitFor();
              await until(async () => {
                const box = (await alert.boundingBox())!;
                return box.y >= 0 && box.y < 760;
              }, 'the alert is in view');
              expect(await overflow(page)).toEqual({ by: 0, wide: [] });
              expect(await page.locator('.results .card').count()).toBe(0);
            };
            await refused('Give a text');
            await page.getByLabel('Text').fill('It closes at four.');
            await refused('Recipe 2: snapkv: keep must be a number above 0 and at most 1; got 2');
            expect(await page.getByLabel('Recipes').inputValue()).toBe(recipes);
            await page.getByLabel('Recipes').fill('kivi(bits=4)');
            const long = 'The gate opens at nine. '.repeat(4000);
            await page.getByLabel('Text').fill(long);
            await refused('do not fit the context of 8192 tokens');
            expect(await page.getByLabel('Text').inputValue()).toBe(long);
          },
          /400/,
        );
      },
    );

    test('who comes back from trying a method finds the list as it was left', async () => {
      await onPage({ width: 1280 }, async page => {
        await page.getByRole('link', { name: 'Methods' }).click();
        await page.getByLabel('Search').fill('bits');
        await page.getByLabel('Order').selectOption('name');
        const before = await cards(page);
        expect(before.length).toBeGreaterThan(3);
        await page.getByRole('link', { name: 'Try it on my text' }).last().press('Enter');
        await page.getByLabel('Text').waitFor();
        expect(await page.title()).toBe('Compare – Kvasir');
        // The keyboard goes on in the view that the link led to.
        expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe('Compare');
        await page.goBack();
        await page.getByLabel('Search').waitFor();
        expect(await page.getByLabel('Search').inputValue()).toBe('bits');
        expect(await cards(page)).toEqual(before);
        expect(
          await page.getByRole('region', { name: 'Methods' }).evaluate(({ scrollTop }) => scrollTop),
        ).toBeGreaterThan(0);
        await page.getByLabel('Search').fill('no such words');
        await page.getByRole('button', { name: 'Show all' }).click();
        expect(await cards(page)).toHaveLength(METHODS.length);
      });
    });

    test('a running comparison stops', async () => {
      await onPage({ width: 1280, path: '/' }, async page => {
        await page.getByRole('link', { name: 'Compare' }).click();
        await page.getByRole('button', { name: 'Take a sample text' }).click();
        await page.getByRole('button', { name: 'Compare' }).press('Enter');
        // The keyboard stays on the button; in a field, Enter begins nothing and stops nothing.
        await page.locator('button:focus', { hasText: 'Stop' }).waitFor();
        await page.getByLabel('Question').press('Enter');
        expect(await page.getByRole('button', { name: 'Stop' }).count()).toBe(1);
        await page.getByRole('button', { name: 'Stop' }).press('Enter');
        await page.getByRole('button', { name: 'Compare' }).waitFor();
        await page.getByText(/^Stopped/).waitFor();
        await until(async () => (await real.engine.stats()).running === 0, 'the engine is idle');
      });
    });
  });
});
