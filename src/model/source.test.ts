import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { directoryFolder, fileSource, pathKind } from './source.node.ts';
import { blobSource, bufferSource } from './source.ts';
import type { ByteSource } from './types.ts';

const content = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kvasir-source-'));
  await writeFile(join(folder, 'file'), content);
});
afterAll(() => rm(folder, { recursive: true }));

const SOURCES: [string, () => Promise<ByteSource>][] = [
  ['buffer', async () => bufferSource(content)],
  ['part of a buffer', async () => bufferSource(Uint8Array.from([9, ...content, 9]).subarray(1, -1))],
  ['blob', async () => blobSource(new Blob([content]))],
  ['file', () => fileSource(join(folder, 'file'))],
];

describe.each(SOURCES)('%s', (_, make) => {
  test('reads any range, in any order, at once', async () => {
    const source = await make();
    expect(source.size).toBe(1000);
    const ranges = [
      [990, 10],
      [0, 1],
      [500, 250],
      [0, 1000],
      [1000, 0],
      [3, 0],
    ];
    const all = await Promise.all(ranges.map(([offset, length]) => source.read(offset, length)));
    all.forEach((bytes, i) => { expect([...bytes]).toEqual([...content.slice(ranges[i][0], ranges[i][0] + ranges[i][1])]); }); // biome-ignore format: one check
    await source.close();
  });

  test('refuses what lies outside', async () => {
    const source = await make();
    for (const [offset, length] of [
      [999, 2],
      [1001, 0],
      [-1, 1],
      [0, -1],
      [0, 2 ** 60],
      [0.5, 1],
      [Number.NaN, 1],
      [2 ** 53, 1],
    ]) {
      await expect(source.read(offset, length)).rejects.toMatchObject({ code: 'bad_model_file' });
    }
    await source.close();
  });
});

test('a file that shrinks while open is reported', async () => {
  const path = join(folder, 'shrinking');
  await writeFile(path, content);
  const source = await fileSource(path);
  await truncate(path, 100);
  await expect(source.read(50, 100)).rejects.toMatchObject({
    code: 'bad_model_file',
    message: expect.stringMatching(/cut while being read/),
  });
  await source.close();
  await source.close();
  await expect(source.read(0, 1)).rejects.toMatchObject({ code: 'disposed' });
});

test('paths', async () => {
  expect(await pathKind(folder)).toBe('folder');
  expect(await pathKind(join(folder, 'file'))).toBe('file');
  await expect(pathKind(join(folder, 'none'))).rejects.toMatchObject({ code: 'model_not_found' });
  await expect(fileSource(folder)).rejects.toMatchObject({ code: 'model_not_found' });
  expect(await directoryFolder(folder).open('none')).toBe(null);
});
