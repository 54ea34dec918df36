import { expect, test } from 'vitest';
import { bytes, count, duration, nats, rate } from './format.ts';

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1 KiB'],
  [1536, '1.50 KiB'],
  [80 * 2 ** 20, '80.0 MiB'],
  [2 ** 20 - 1, '1 MiB'],
  [3 * 2 ** 30, '3 GiB'],
])('%d bytes', (value, text) => {
  expect(bytes(value)).toBe(text);
});

test('counts, durations, rates', () => {
  expect([count(8192), count(33_700_000), count(1.7e9)]).toEqual(['8,192', '33.7M', '1.70B']);
  expect([duration(56.7), duration(999.6), duration(12_345)]).toEqual(['57 ms', '1 s', '12.3 s']);
  expect([rate(0), rate(12.34), rate(870.2)]).toEqual(['0', '12.3', '870']);
});

test('nats: what rounds to nothing has no sign', () => {
  expect([nats(0.0271), nats(-0.0004), nats(-0.01)]).toEqual(['0.027 nats', '0.000 nats', '-0.010 nats']);
});
