import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { expect, test } from 'vitest';
import { formatBytes, formatCount, table } from './format.ts';
import { addOptions, bytes, ENGINE_OPTIONS, LOAD_OPTIONS, pick, SAMPLING_OPTIONS } from './options.ts';
import { Progress, waiting } from './progress.ts';

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1.00 KiB'],
  [15_000, '14.6 KiB'],
  [98_362_432, '93.8 MiB'],
  [2 ** 41, '2.00 TiB'],
  [2 ** 51, '2048.0 TiB'],
])('%d bytes are %s', (count, text) => expect(formatBytes(count)).toBe(text));

test.each([
  [999, '999'],
  [1500, '1.50k'],
  [33_700_000, '33.7M'],
  [1.5e9, '1.50B'],
])('%d is %s', (count, text) => expect(formatCount(count)).toBe(text));

test('a table lines up, numbers to the right', () => {
  expect(
    table(
      ['a', 'count'],
      [
        ['long name', 5],
        ['b', 1000],
      ],
    ),
  ).toBe('a          count\nlong name      5\nb           1000');
});

test.each([
  ['1M', 2 ** 20],
  ['1.5g', 1.5 * 2 ** 30],
  ['2GiB', 2 ** 31],
  ['3 mb', 3 * 2 ** 20],
  ['1048576', 2 ** 20],
  ['1048575', undefined],
  ['-1G', undefined],
  ['G', undefined],
  ['1e9', undefined],
  ['9999999T', undefined],
])('bytes %s', (given, value) => expect(bytes.parse(given)).toBe(value));

test('given options reach the library under its names; the others stay away', async () => {
  const command = addOptions(new Command(), [...SAMPLING_OPTIONS, ...LOAD_OPTIONS, ...ENGINE_OPTIONS]);
  const line =
    '--top-k 5 --stop a --stop b --logit-bias 7:-2.5 --logit-bias 8:100 --deterministic --cache int8 --memory 1G';
  await command.parseAsync(line.split(' '), { from: 'user' });
  expect(pick(command.opts(), SAMPLING_OPTIONS)).toEqual({
    maxTokens: 256,
    topK: 5,
    stop: ['a', 'b'],
    logitBias: { 7: -2.5, 8: 100 },
  });
  expect(pick(command.opts(), LOAD_OPTIONS)).toEqual({ deterministic: true, cache: 'int8' });
  expect(pick(command.opts(), ENGINE_OPTIONS)).toEqual({ memoryLimit: 2 ** 30 });
});

test.each([
  [true, /loading \[.*\] 50% half/],
  [false, /^$/],
])('a bar only on a terminal (%s), only after a moment', async (isTTY, text) => {
  const stderr = Object.assign(new PassThrough(), {
    isTTY,
    columns: 100,
    cursorTo() {},
    clearLine() {},
    moveCursor() {},
  });
  let seen = '';
  stderr.on('data', piece => {
    seen += piece;
  });
  const io = { stdin: process.stdin, stdout: process.stdout, stderr, env: {}, onInterrupt: () => () => {} };
  const progress = new Progress(io, () => 'half');
  progress.update('loading', 1, 4);
  expect(seen).toBe('');
  await sleep(320);
  progress.update('loading', 2, 4);
  progress.stop();
  await sleep(10);
  expect(seen).toMatch(text);
});

test('a note of what takes long comes after a second, on a terminal, and goes', async () => {
  const stderr = Object.assign(new PassThrough(), { isTTY: true });
  let seen = '';
  stderr.on('data', piece => {
    seen += piece;
  });
  const done = waiting(
    { stdin: process.stdin, stdout: process.stdout, stderr, env: {}, onInterrupt: () => () => {} },
    'scoring',
  );
  expect(seen).toBe('');
  await sleep(1100);
  expect(seen).toContain('scoring 1 s');
  done();
  done();
  await sleep(10);
  expect(seen.endsWith('\r\u001b[K')).toBe(true);
});
