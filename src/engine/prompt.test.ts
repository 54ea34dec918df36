import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testPath } from '../../test/golden.ts';
import { openKernels, openLoaded } from '../../test/models.ts';
import type { Kernels } from '../backend/types.ts';
import { KvasirError } from '../errors.ts';
import { checkSegments, MAX_SEGMENTS } from './check-segments.ts';
import type { LoadedModel } from './loaded-model.ts';
import { encodeSegments, readPrompt } from './prompt.ts';
import { checkGenerate } from './validate.ts';

const kind = 'document';

describe('segments of a text', () => {
  let kernels: Kernels;
  let model: LoadedModel;
  beforeAll(async () => {
    kernels = await openKernels(1);
    model = await openLoaded(kernels, testPath('models/qwen3'), { mode: 'exact', deterministic: true });
  }, 60_000);
  afterAll(async () => {
    await model.dispose();
    await kernels.dispose();
  });

  test('take the tokens that begin within them: random cuts of random texts, none lost, none twice', () => {
    for (let seed = 1; seed < 60; seed++) {
      let state = seed * 2654435761;
      const random = (below: number) => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 2 ** 32) * below);
      };
      const text = Array.from(
        { length: 1 + random(80) },
        () => ['the ', 'cat', ' Ωmega', '😀', '\n', '12 '][random(6)],
      ).join('');
      const borders = [
        ...new Set([0, ...Array.from({ length: random(6) }, () => random(text.length)), text.length]),
      ].sort((a, b) => a - b);
      const segments = borders.slice(1).map((to, i) => ({ kind, label: String(i), from: borders[i]!, to }) as const);
      const read = encodeSegments(model.tokenizer, text, segments);
      expect(read.tokens).toEqual(model.tokenizer.encode(text, { parseSpecial: true }));
      let end = 0;
      for (const segment of read.segments) {
        expect(segment.from).toBe(end);
        expect(segment.to).toBeGreaterThan(segment.from);
        end = segment.to;
      }
      expect(end).toBe(read.tokens.length);
    }
  });

  test('no segments, no work: the same tokens', () => {
    expect(readPrompt(model.tokenizer, { model: 'm', text: 'the cat' })).toEqual({
      tokens: model.tokenizer.encode('the cat', { addBos: true, parseSpecial: true }),
      segments: [],
    });
    expect(readPrompt(model.tokenizer, { model: 'm', tokens: [4, 5], segments: [{ kind, from: 1, to: 2 }] })).toEqual({
      tokens: [4, 5],
      segments: [{ kind, from: 1, to: 2 }],
    });
  });
});

describe('refused', () => {
  const cases: [segments: unknown, field: string, message: RegExp][] = [
    ['all', 'segments', /a list/],
    [Array(MAX_SEGMENTS + 1).fill({ kind, from: 0, to: 1 }), 'segments', /at most 4096/],
    [[null], 'segments.0', /an object with a kind/],
    [[{ kind: 'page', from: 0, to: 1 }], 'segments.0.kind', /one of system, turn, document, image, text/],
    [[{ kind: 'toString', from: 0, to: 1 }], 'segments.0.kind', /one of system/],
    [[{ kind, label: 'x'.repeat(201), from: 0, to: 1 }], 'segments.0.label', /at most 200/],
    [[{ kind, from: -1, to: 1 }], 'segments.0.from', /an integer from 0/],
    [[{ kind, from: 0.5, to: 1 }], 'segments.0.from', /an integer from 0/],
    [[{ kind, from: 3, to: 3 }], 'segments.0.to', /above from, 3/],
    [[{ kind, from: 3, to: 11 }], 'segments.0.to', /at most 10, the tokens of the prompt/],
    [[{ kind, from: 0, to: 4 }, { kind, from: 3, to: 6 }], 'segments.1.from', /do not overlap/],
    [[{ kind, from: 4, to: 6 }, { kind, from: 0, to: 3 }], 'segments.1.from', /in the order of the prompt/],
  ]; // biome-ignore format: a table
  test.each(cases)('%j: %s', (segments, field, message) => {
    const run = () => checkSegments(segments, 10, 'tokens');
    expect(run).toThrow(message);
    expect(run).toThrow(expect.objectContaining({ code: 'invalid_request', field }));
  });

  test('by the engine, before anything runs', () => {
    const segments = [{ kind, from: 0, to: 9 }] as const;
    expect(() => checkGenerate({ model: 'm', text: 'four', segments }, 10)).toThrow(/at most 4, the characters/);
    expect(() => checkGenerate({ model: 'm', messages: [{ role: 'user', content: 'a' }], segments }, 10)).toThrow(
      KvasirError,
    );
    const part = { text: 'a', segment: { kind: 'page' } } as never;
    expect(() => checkGenerate({ model: 'm', messages: [{ role: 'user', content: [part] }] }, 10)).toThrow(
      expect.objectContaining({ field: 'messages.0.content.0.segment.kind' }),
    );
  });
});
