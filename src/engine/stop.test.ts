import fc from 'fast-check';
import { expect, test } from 'vitest';
import { StopMatcher } from './stop.ts';

test('passes text on when there is nothing to stop at', () => {
  const matcher = new StopMatcher([]);
  expect(matcher.push('abc')).toBe('abc');
  expect(matcher.flush()).toBe('');
});

test('finds a stop string that comes in pieces and shows none of it', () => {
  const matcher = new StopMatcher(['\n\nUser:']);
  expect(matcher.push('Hello\n')).toBe('Hello');
  expect(matcher.push('\nUs')).toBe('');
  expect(matcher.push('er: x')).toBe('');
  expect(matcher.stopped).toBe(true);
  expect(matcher.flush()).toBe('');
});

test('gives back what turned out to be no stop string', () => {
  const matcher = new StopMatcher(['###']);
  expect(matcher.push('a##')).toBe('a');
  expect(matcher.push('b')).toBe('##b');
});

test('however the text is cut, the output is the text before the first stop string', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 40 });
  const stop = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(
      text,
      fc.array(stop, { maxLength: 3 }),
      fc.array(fc.nat(5), { maxLength: 40 }),
      (whole, stops, cuts) => {
        const matcher = new StopMatcher(stops);
        let output = '';
        let at = 0;
        for (const cut of [...cuts, whole.length]) {
          // A stop string is recognised in the earliest piece that completes one.
          if (matcher.stopped) break;
          output += matcher.push(whole.slice(at, at + cut));
          at += cut;
        }
        output += matcher.flush();
        const ends = stops.map(s => whole.indexOf(s)).filter(i => i >= 0);
        if (ends.length === 0) expect(output).toBe(whole);
        else {
          expect(whole.startsWith(output)).toBe(true);
          const completed = Math.min(
            ...stops
              .map(s => [whole.indexOf(s), s.length] as const)
              .filter(([i]) => i >= 0)
              .map(([i, n]) => i + n),
          );
          expect(output.length).toBeLessThan(completed);
          for (const s of stops) expect(output.includes(s)).toBe(false);
        }
      },
    ),
  );
});
