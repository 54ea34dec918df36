import { expect, test } from 'vitest';
import { bundledText } from './bundled.testing.ts';
import { cacheSetting } from './cache-setting.ts';
import { Feed } from './feed.ts';
import { Divergence } from './meters/divergence.ts';
import { PromptForks } from './prompt-forks.ts';

const text = bundledText();

test.each([
  ['kivi(bits=2, residual=64)', 65, 3],
  ['kvtuner(pairs=k4v2) @ f16', 256, 64],
  ['kvtuner(pairs=k8v16, base=token)', 100, 70],
  ['gear(bits=4)', 127, 2],
  ['snapkv(keep=0.5) + kvtuner(pairs=k16v4) @ f16', 300, 70],
  ['adakv(keep=0.4, window=16) + kvtuner(pairs=k4v4)', 400, 70],
])('%s: bytes and predictions of the whole recipe', async (name, length, more) => {
  const setting = cacheSetting(name);
  const prompt = text.tokens.slice(0, length);
  const forced = text.tokens.slice(length, length + more);
  using feed = new Feed(text.model, setting);
  const wanted: Float32Array[] = [];
  const note = (_: number, logits: Float32Array) => void wanted.push(logits.slice());
  await feed.prompt(prompt, 'last', note);
  const { held } = feed.stats();
  let most = held;
  for (const token of forced) {
    await feed.push([token], 'all', note);
    most = Math.max(most, feed.stats().held);
  }

  using shared = await PromptForks.read(text.model, setting, prompt);
  const before = shared.held;
  const found = [shared.last];
  const bytes = await shared.force(setting, forced, (at, logits) => {
    expect(at).toBe(length + found.length - 1);
    found.push(logits.slice());
  });
  expect(shared.held).toBe(before);
  for (const [own, whole] of [
    [bytes.held, held],
    [bytes.most, most],
  ] as const)
    expect(Math.abs(own / whole - 1)).toBeLessThan(0.01);
  expect(found).toHaveLength(wanted.length);
  // Rows of a tile and single rows go through other kernels.
  const between = new Divergence();
  for (const [i, logits] of found.entries()) between.add(wanted[i]!, logits);
  expect(between.result().kl).toBeLessThan(1e-4);
  expect(between.result().logitError).toBeLessThan(0.3);
});

test('a prompt is shared by recipes that begin alike and end in a method that asks for nothing', () => {
  const nameOf = (recipe: string) => PromptForks.nameOf(text.model, cacheSetting(recipe));
  expect(nameOf('snapkv(keep=0.5) + kivi')).toBe('snapkv(keep=0.5) @ f32');
  expect(nameOf('snapkv(keep=0.5) + kvtuner')).toBe(nameOf('snapkv(keep=0.5) + kivi'));
  expect(nameOf('kivi @ f16')).toBe('full @ f16');
  expect([nameOf('full'), nameOf('snapkv'), nameOf('kvquant'), nameOf('rotatekv')]).toEqual([null, null, null, null]);
  expect([nameOf('snapkv(keep=0.5, evict=chunk) + kivi'), nameOf('streaming-llm + kivi')]).toEqual([null, null]);
});
