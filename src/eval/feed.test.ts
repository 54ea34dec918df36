import { expect, test } from 'vitest';
import { bundledText } from './bundled.testing.ts';
import { cacheSetting } from './cache-setting.ts';
import { Feed } from './feed.ts';
import { Divergence } from './meters/divergence.ts';

const text = bundledText();

// With a share for each head, pages of one layer fill at different steps; zipcache and h2o look at steps.
test.each([
  'kivi(bits=2, residual=64)',
  'kvquant',
  'rotatekv(buffer=64)',
  'mikv',
  'snapkv(keep=0.3) + vidkv(buffer=64)',
  'adakv(keep=0.4, window=16) + gear',
  'zipcache(buffer=64)',
  'h2o(keep=0.3)',
])('%s: tokens pushed together leave what tokens pushed one by one do', async recipe => {
  const setting = cacheSetting(recipe);
  const [prompt, forced] = [text.tokens.slice(0, 300), text.tokens.slice(300, 440)];
  using single = new Feed(text.model, setting);
  using together = new Feed(text.model, setting);
  const wanted: Float32Array[] = [];
  await single.prompt(prompt, 'last', () => {});
  for (const token of forced) await single.push([token], 'all', (_, logits) => void wanted.push(logits.slice()));
  await together.prompt(prompt, 'last', () => {});
  const between = new Divergence();
  let at = 0;
  await together.push(forced, 'all', (position, logits) => {
    expect(position).toBe(300 + at);
    between.add(wanted[at++]!, logits);
  });
  expect(at).toBe(forced.length);
  expect(together.stats().tokens).toEqual(single.stats().tokens);
  expect(together.stats().held).toBe(single.stats().held);
  // Rows of a tile and single rows go through other kernels: a code near a border, of 2 bits, may come out another one.
  expect(between.result().kl).toBeLessThan(2e-3);
});
