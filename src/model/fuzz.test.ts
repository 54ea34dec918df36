import { describe, expect, test } from 'vitest';
import { KvasirError } from '../errors.ts';
import { openModel } from './open.ts';
import { bufferSource, type FileFolder, memoryFolder } from './source.ts';
import { byteLevelMetadata, seeded, sentencePieceMetadata, tinyGguf } from './tiny-files.ts';
import { tinyFolder } from './tiny-folder.ts';
import { createTokenizer } from './tokenizer.ts';
import type { ByteSource } from './types.ts';

/** Never asked for more than the file has: the reader sizes nothing by a number that it has not checked. */
function watched(source: ByteSource): ByteSource {
  return {
    ...source,
    async read(offset, length) {
      expect(length).toBeLessThanOrEqual(source.size);
      expect(offset).toBeGreaterThanOrEqual(0);
      return source.read(offset, length);
    },
  };
}

/** Opens and uses all of a model; true where that went well, false where a KvasirError said why not. */
async function survives(source: ByteSource | FileFolder): Promise<boolean> {
  try {
    const model = await openModel(source);
    const tokenizer = createTokenizer(model.tokenizer);
    tokenizer.decode(tokenizer.encode('hello <|im_end|>\n 12 é🙂'));
    for (const name of model.tensors.keys()) await model.read(name);
    if (model.tokenizer.chatTemplate) tokenizer.renderChat([{ role: 'user', content: 'hi' }]);
    await model.close();
    return true;
  } catch (error) {
    if (error instanceof KvasirError && error.message.length > 10) return false;
    throw error;
  }
}

const FILES: [string, Uint8Array][] = [
  ['byte-level llama', tinyGguf({ type: 'Q8_0' })],
  ['sentencepiece gemma3', tinyGguf({ architecture: 'gemma3', tokenizer: sentencePieceMetadata(false) })],
  ['qwen2', tinyGguf({ architecture: 'qwen2', tokenizer: byteLevelMetadata('qwen2') })],
];

describe.each(FILES)('%s', (_, file) => {
  // Tensor data of these files takes most of their length; all that can go wrong is in front of it.
  const header = Buffer.from(file).lastIndexOf('output_norm.weight') + 64;

  test('cut at every 7th byte of the header and at random points of the data: an error, always', async () => {
    const random = seeded(11);
    const cuts = Array.from({ length: Math.ceil(header / 7) }, (_, i) => i * 7);
    for (let i = 0; i < 50; i++) cuts.push(header + Math.floor(random() * (file.length - header - 32)));
    for (const cut of cuts) expect(await survives(watched(bufferSource(file.slice(0, cut))))).toBe(false);
    expect(await survives(bufferSource(file))).toBe(true);
  }, 30_000);

  test('bytes of the header flipped: a typed error or a model', async () => {
    const random = seeded(12);
    for (let i = 0; i < 600; i++) {
      const bytes = file.slice();
      for (let flips = 1 + Math.floor(random() * 3); flips > 0; flips--) {
        bytes[Math.floor(random() * header)] ^= 1 << Math.floor(random() * 8);
      }
      await survives(watched(bufferSource(bytes)));
    }
  }, 30_000);

  test('numbers of the header blown up: a typed error or a model', async () => {
    const random = seeded(13);
    for (let i = 0; i < 300; i++) {
      const bytes = file.slice();
      const at = Math.floor(random() * (header - 8));
      const value = [0n, 0xffffffffn, 0x7fffffffn, 0xffffffffffffffffn, 1n << 40n, 1n << 53n][Math.floor(random() * 6)];
      new DataView(bytes.buffer).setBigUint64(at, value, true);
      await survives(watched(bufferSource(bytes)));
    }
  }, 30_000);
});

describe('a Hugging Face folder', () => {
  const files = tinyFolder();
  const with_ = (name: string, bytes: Uint8Array) => memoryFolder(new Map([...files, [name, bytes]]));

  test.each([...files.keys()])(
    '%s cut or flipped: a typed error or a model',
    async name => {
      const random = seeded(14);
      const whole = files.get(name)!;
      const reach = Math.min(whole.length, 6000);
      for (let i = 0; i < 120; i++) {
        const cut = Math.floor(random() * reach);
        await survives(with_(name, whole.slice(0, cut)));
        const bytes = whole.slice();
        bytes[Math.floor(random() * reach)] ^= 1 << Math.floor(random() * 8);
        await survives(with_(name, bytes));
      }
      expect(await survives(memoryFolder(files))).toBe(true);
    },
    30_000,
  );

  test('weights cut anywhere: an error, always', async () => {
    const random = seeded(15);
    const whole = files.get('model.safetensors')!;
    for (let i = 0; i < 100; i++) {
      const cut = whole.slice(0, Math.floor(random() * whole.length));
      expect(await survives(with_('model.safetensors', cut))).toBe(false);
    }
  });
});
