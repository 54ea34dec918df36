import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Kernels } from '../src/backend/types.ts';
import { calibrate } from '../src/engine/calibrate/index.ts';
import type { LoadedModel } from '../src/engine/loaded-model.ts';
import { runForced } from '../src/engine/score.ts';
import { testPath } from './golden.ts';
import { checkBytes, checkFreed } from './helpers/matrix-bytes.ts';
import { checkPositions, difference, expectSame, snapshot, viewsOf } from './helpers/matrix-checks.ts';
import {
  choppers,
  chunkedOf,
  methods,
  neutrals,
  recipeOf,
  recipesOf,
  stableRecipeOf,
} from './helpers/matrix-recipes.ts';
import { checkRows, type FullRows, fullRows } from './helpers/matrix-rows.ts';
import { BUNDLED, openKernels, openLoaded } from './models.ts';
import { force, stepTogether, Written } from './recipes.ts';

/**
 * Every method of the registry on every model, in every situation in which a cache is used:
 *   one tile, tiles     the same entries and answers, bit for bit: the prompt in one tile of 256, and in tiles of 63
 *   two turns           a second prompt after decoding, and decoding after it
 *   fork                while decoding, and before a second turn; its parent goes on as if there were none
 *   batch of 3          beside a stranger and its fork, while decoding and while a second prompt is read
 *   evict=chunk         where a method has it: in tiles too; one chunk for all is `evict=prompt`
 *   a prefix            of the cache, where a method says that it may be reused
 *   keep=1 and the like the full cache's answers
 *   save and load       does not apply: there is no store yet that a cache could be saved to
 * What is kept has the rows and positions of the full cache; bytes are what the method's card says (card-bytes.ts), by item.
 * A method joins by being registered (and by a formula of its bytes): its defaults are used, with a budget that the short
 * prompts exceed.
 */
const MODELS = [
  { name: 'kvasir-mini', path: BUNDLED, mode: 'fast' },
  { name: 'tiny GQA', path: testPath('models/qwen3'), mode: 'exact' },
  { name: 'tiny MHA', path: testPath('models/llama-linear'), mode: 'exact' },
] as const;

/** One tile takes all of it: of 256 rows, the most that keep their bits whatever runs beside them (larger ones are cut). */
const PROMPT = 250;
/** In tiles of 63, too, of more than 8 rows: so few meet encoded pages in another way, and round otherwise. */
const TURN = 90;
/** Steps before the second turn, in which the last page fills, and after it: one for every entry of a page. */
const BEFORE = 20;
const AFTER = 64;
/** Tokens, and their salts: two prompts and what is written after them. */
const NEUTRAL_PARTS = [
  [PROMPT, 1],
  [TURN, 2],
  [BEFORE, 3],
] as const;

/** Any text will do, and not much of it: what is checked here is not quality. */
const CALIBRATION_TEXT = Array.from({ length: 400 }, (_, i) => `${(i * 7919) % 1000} `).join('');

let kernels: Kernels;
beforeAll(async () => {
  kernels = await openKernels(2);
});
afterAll(() => kernels.dispose());

describe.each(MODELS)('$name', ({ path, mode }) => {
  let model: LoadedModel;
  let small: LoadedModel;
  /** Logits of the full cache, by position. */
  let full: Float32Array[];
  /** Its rows after the prompt, by whether keys are stored before RoPE. */
  let rows: Map<boolean, FullRows>;
  const tokens = (count: number, salt: number) => {
    const { vocab } = model.info;
    return Array.from({ length: count }, (_, i) => 3 + (((i * 7919 + salt * 104729) ^ (i >> 3)) % (vocab - 4)));
  };
  beforeAll(async () => {
    model = await openLoaded(kernels, path, { mode, tile: 256, deterministic: true });
    small = await openLoaded(kernels, path, { mode, tile: 63, deterministic: true });
    for (const { profile } of methods) {
      if (profile === undefined) continue;
      small.setProfile(profile, await calibrate(model, profile, CALIBRATION_TEXT));
    }
    full = await fullLogits(
      model,
      NEUTRAL_PARTS.flatMap(([count, salt]) => tokens(count, salt)),
    );
    rows = new Map();
    for (const unrotated of [false, true]) rows.set(unrotated, await fullRows(model, tokens(PROMPT, 1), unrotated));
  }, 300_000);
  afterAll(async () => {
    await model.dispose();
    await small.dispose();
  });

  const placed = (method: (typeof methods)[number]) => recipesOf(method, 2).map((_, n) => [method, n] as const);
  test.each(
    methods
      .flatMap(placed)
      .map(([method, n]) => [n === 0 ? method.name : `${method.name} otherwise`, method, n] as const),
  )('%s', async (_, method, n) => {
    const kv = recipesOf(method, model.shape.layers)[n]!;
    const [first, second] = [tokens(PROMPT, 1), tokens(TURN, 2)];
    const written = tokens(BEFORE + AFTER, 3);

    using one = new Written(model, kv);
    const turns = [{ prompt: PROMPT, end: PROMPT }];
    const past = { turns, empty: one.sequence.stats() };
    const check = () => {
      checkPositions(one, method);
      checkBytes(one, method, kv, past);
    };
    const afterPrompt = await one.prompt(first);
    const kept = snapshot(one);
    checkRows(one, method, kv, rows.get(one.run.program.pages('f32').keysUnrotated ?? false)!);
    check();
    const before = await force(one, written.slice(0, BEFORE));
    turns[0]!.end += BEFORE;
    check();
    const afterTurn = await one.prompt(second);
    const keptTurn = snapshot(one);
    turns.push({ prompt: PROMPT + BEFORE + TURN, end: PROMPT + BEFORE + TURN });
    check();
    const after = await force(one, written.slice(BEFORE));
    turns[1]!.end += AFTER;
    check();
    for (const logits of [afterPrompt, ...before, afterTurn, ...after])
      expect(logits.every(Number.isFinite)).toBe(true);
    checkFreed(one, past);

    // In tiles of another size: the same entries, the same answers.
    using tiles = new Written(small, kv);
    expect(difference(await tiles.prompt(first), afterPrompt)).toBe(0);
    expect(snapshot(tiles)).toEqual(kept);

    // In a batch of 3, with a stranger and its fork, which write other things.
    using stranger = new Written(small, kv);
    await stranger.prompt(second);
    using other = stranger.fork();
    const others = (i: number) => [
      { at: stranger, token: written[(i * 5) % written.length]! },
      { at: other, token: written[written.length - 1 - i]! },
    ];
    const together = async (at: Written, steps: readonly Float32Array[], from: number, within = 0) => {
      for (const [i, expected] of steps.entries()) {
        const [ours] = await stepTogether([{ at, token: written[from + i]! }, ...others(i)]);
        expect(difference(ours!, expected)).toBeLessThanOrEqual(within);
      }
    };
    {
      using fork = tiles.fork();
      await together(fork, before, 0);
    }
    await together(tiles, before, 0);

    // A second turn, while the others go on: of a fork, and of its parent, which the fork has left as it was.
    const turn = async (at: Written) => {
      let i = 0;
      const logits = await at.prompt(second, () => (i < 8 ? stepTogether(others(i++)) : Promise.resolve()));
      expect(difference(logits, afterTurn)).toBe(0);
      expect(snapshot(at)).toEqual(keptTurn);
    };
    {
      using fork = tiles.fork();
      await turn(fork);
      // Pages that it shares are not packed, so that sums are cut elsewhere; `fast` rounds what comes of it to 8 bits.
      await together(fork, after.slice(0, 4), BEFORE, mode === 'fast' ? 0.05 : 1e-4);
    }
    await turn(tiles);
    await together(tiles, after.slice(0, 8), BEFORE);
  });

  test.each(choppers.map(method => [method.name, method] as const))('%s, chunk by chunk', async (_, method) => {
    const first = tokens(PROMPT, 1);
    const run = async (of: LoadedModel, kv: string) => {
      using at = new Written(of, kv);
      const logits = await at.prompt(first);
      checkPositions(at, method);
      return { logits, kept: snapshot(at) };
    };
    const [one, tiles] = [await run(model, chunkedOf(method, 100)), await run(small, chunkedOf(method, 100))];
    expect(difference(tiles.logits, one.logits)).toBe(0);
    expect(tiles.kept).toEqual(one.kept);
    const [whole, prompt] = [
      await run(small, chunkedOf(method, 4096)),
      await run(model, recipeOf(method, model.shape.layers)),
    ];
    expect(difference(whole.logits, prompt.logits)).toBe(0);
    expect(whole.kept).toEqual(prompt.kept);
    // Where the entries are the same, other rows have seen less of the text.
    expect(difference(one.logits, prompt.logits)).toBeGreaterThan(0);
  });

  test.each(
    methods.flatMap(method => {
      const kv = stableRecipeOf(method);
      return kv === '' ? [] : [[kv, method] as const];
    }),
  )('a prefix of the cache of %s', async (kv, method) => {
    const [prefix, one, another] = [tokens(192, 1), tokens(130, 2), tokens(130, 4)];
    const short = one.slice(0, 58);
    using alone = new Written(model, kv);
    expect(alone.run.program.prefixStable).toBe(true);
    await alone.prompt(prefix);
    const left = async (...turns: (readonly number[])[]) => {
      using at = new Written(model, kv);
      for (const turn of turns) await at.prompt(turn);
      at.sequence.truncate(prefix.length);
      return viewsOf(at);
    };
    // Before anything more has become due: as the prefix alone has left it.
    expectSame(await left([...prefix, ...short]), viewsOf(alone));
    // Later: the same codes, whatever came after the prefix, at once or in another turn.
    const longer = await left([...prefix, ...one]);
    expectSame(await left([...prefix, ...another]), longer);
    expectSame(await left(prefix, another), longer);
    checkPositions(alone, method);
  });

  test('no other method says that a prefix of its cache may be reused', () => {
    for (const method of methods) {
      if (stableRecipeOf(method) !== '') continue;
      expect(small.program(recipeOf(method, model.shape.layers))!.prefixStable, method.name).toBe(false);
    }
  });

  test.each(neutrals)('$kv is the full cache, in a second prompt too', async ({ kv, within }) => {
    const [first, second, written] = NEUTRAL_PARTS.map(([count, salt]) => tokens(count, salt)) as [
      number[],
      number[],
      number[],
    ];
    using neutral = new Written(small, kv);
    let at = PROMPT - 1;
    const expectFull = (logits: readonly Float32Array[]) => {
      for (const [i, row] of logits.entries()) expect(difference(row, full[at + i]!)).toBeLessThan(within);
    };
    const afterPrompt = await neutral.prompt(first);
    {
      using forked = neutral.fork();
      expectFull([afterPrompt, ...(await force(forked, second.slice(0, BEFORE)))]);
    }
    at += TURN;
    expectFull([await neutral.prompt(second), ...(await force(neutral, written))]);
  });
});

/** Logits of the full cache by position, from the prompt's last token on. */
async function fullLogits(model: LoadedModel, given: readonly number[]): Promise<Float32Array[]> {
  const logits: Float32Array[] = [];
  const sequence = model.cache.create({ owner: 'full', pages: { formatK: 'f32', formatV: 'f32' } });
  await runForced(model.forward, sequence, given, 'layer', PROMPT - 1, (work, row, values) => {
    logits[work.position + row] = values.slice();
  });
  sequence.free();
  return logits;
}
