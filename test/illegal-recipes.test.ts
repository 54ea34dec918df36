import { describe, expect, test } from 'vitest';
import { runCli } from '../src/cli/cli.testing.ts';
import { checkGenerate, checkLoad, checkScore } from '../src/engine/validate.ts';
import { KvasirError } from '../src/errors.ts';
import { createPolicies } from '../src/methods/composition.ts';
import { METHODS } from '../src/methods/index.ts';
import { parseRecipe, type RecipeInput } from '../src/methods/recipe.ts';
import type { Method } from '../src/methods/types.ts';
import { createApp } from '../src/serve/app.ts';
import { EchoEngine, echoCatalogue } from '../src/serve/echo.testing.ts';

/** Two methods that do not go together: the reason that must be told, and the way out. */
const MIXES: [recipe: string, reason: RegExp, wayOut: RegExp][] = [
  ['full + kivi', /nothing is done to the cache/, /leave out full/],
  ['snapkv + h2o', /each of them chooses which tokens stay/, /leave out snapkv or h2o/],
  ['pyramidkv + adakv', /each of them chooses which tokens stay/, /leave out pyramidkv or adakv/],
  ['fastkv + snapkv', /each of them chooses which tokens stay/, /leave out fastkv or snapkv/],
  ['kivi + gear', /each of them stores rows in a smaller format/, /leave out kivi or gear/],
  ['minicache + xkv', /each of them stores several layers together/, /leave out/],
  ['snapkv + snapkv(keep=0.5)', /stands in a recipe once/, /all its options in one place/],
  ['kivi(bits=4) + snapkv', /snapkv chooses which tokens stay, which comes before/, /write snapkv before kivi/],
  ['louiskv + kvmerger', /kvmerger merges tokens.*comes before/, /write kvmerger before louiskv/],
  ['h2o + kivi', /h2o drops single tokens.*cannot go one by one/, /take streaming-llm, snapkv or pyramidkv/],
  ['tova + gear', /tova drops single tokens.*cannot go one by one/, /in the place of tova beside gear/],
  ['cake + kvquant', /cake drops single tokens.*cannot go one by one/, /in the place of cake beside kvquant/],
  ['treekv + louiskv', /treekv drops tokens.*louiskv has moved them/, /in the place of treekv beside louiskv/],
  ['snapkv + minicache', /snapkv keeps other tokens in each layer.*same tokens in all layers/, /leave out/],
  ['adakv + xkv', /other tokens in each layer and head.*all layers and heads/, /leave out/],
  ['random + xkv', /other tokens in each layer and head.*all layers and heads/, /leave out/],
  ['streaming-llm + xkv', /new positions.*under one position/, /set positions=kept in streaming-llm/],
  ['streaming-llm + minicache', /same tokens in all heads.*another order/, /leave out/],
  ['razor-attention + kivi', /writes into one entry at every step/, /in the place of razor-attention beside kivi/],
  ['cake + kvmerger', /looks at the queries or hidden states of the prompt.*gone/, /in the place of cake beside kvmerger/],
  ['tova + kvmerger', /same tokens in all heads.*other tokens in each/, /in the place of tova beside kvmerger/],
  ['xkv + kivi', /xkv leaves pages that nothing can change/, /leave out xkv or kivi/],
  ['minicache + louiskv', /louiskv reads and writes single rows, and minicache has packed them/, /leave out/],
  ['kivi + louiskv', /reads and writes single rows, and kivi has packed them/, /leave out kivi or louiskv/],
  ['kvmerger + kvquant', /kvquant needs keys before RoPE.*kvmerger needs them after/, /take kivi, gear or zipcache in the place of kvquant/],
  ['snapkv + kvmerger + minicache', /same tokens in all layers/, /leave out snapkv or minicache/],
]; // biome-ignore format: a table

/** One method with settings that it cannot have. */
const SETTINGS: [recipe: RecipeInput | string, message: RegExp, value: unknown][] = [
  ['snapkv(keep=0)', /snapkv: keep must be a number above 0 and at most 1/, 0],
  ['snapkv(keep=1.01)', /snapkv: keep must be a number above 0 and at most 1/, 1.01],
  ['h2o(keep=0.2, budget=256)', /h2o: give keep or budget, not both/, 256],
  ['pyramidkv(budget=0)', /pyramidkv: budget must be a whole number at least 1/, 0],
  ['snapkv(evict=step)', /snapkv: evict must be prompt or chunk/, 'step'],
  ['snapkv(chunk=8)', /snapkv: chunk must be a whole number at least 64/, 8],
  ['snapkv(width=4)', /snapkv: width must be odd/, 4],
  ['kivi(bits=16)', /kivi: bits must be 1, 2, 3, 4 or 8/, 16],
  ['kivi(residual=96)', /kivi: residual must be a multiple of 64/, 96],
  ['kvquant(outliers=0.5)', /kvquant: outliers must be a number from 0 to 0.25/, 0.5],
  ['streaming-llm(sinks=-1)', /streaming-llm: sinks must be a whole number from 0/, -1],
  ['adakv(bits=2)', /adakv has no option "bits"/, 'bits'],
  ['snapkv(ratio=0.75)', /snapkv has no option "ratio"/, 'ratio'],
  ['snapkv-2', /no method "snapkv-2": did you mean "snapkv"\?/, 'snapkv-2'],
  ['snapkv(keep=25%)', /cannot be read at character 15/, 'snapkv(keep=25%)'],
];

function refusal(run: () => unknown): KvasirError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(KvasirError);
    return error as KvasirError;
  }
  throw new Error('accepted');
}

describe('illegal mixes are refused with both names, the reason and a way out', () => {
  test.each(MIXES)('%s', (recipe, reason, wayOut) => {
    const error = refusal(() => parseRecipe(recipe));
    expect(error).toMatchObject({ code: 'invalid_recipe', field: 'kv', value: recipe });
    const names = new Set(recipe.split('+').map(step => step.trim().split('(')[0]!));
    const named = [...names].filter(name => error.message.includes(name));
    expect(named.length).toBeGreaterThanOrEqual(Math.min(2, names.size));
    expect(error.message).toMatch(reason);
    expect(error.message).toMatch(wayOut);
  });

  test('each way out that names a setting or other methods is one', () => {
    for (const [recipe] of MIXES) {
      const { message } = refusal(() => parseRecipe(recipe));
      const instead = /take (.+?) in the place of (\S+) beside/.exec(message);
      const setting = /set (\w+=\w+) in (\S+)/.exec(message);
      const before = /write (\S+) before (\S+)$/.exec(message);
      const texts = instead
        ? instead[1]!.split(/, | or /).map(name => recipe.replace(instead[2]!, name))
        : setting
          ? [recipe.replace(setting[2]!, `${setting[2]}(${setting[1]})`)]
          : before
            ? [`${before[1]} + ${before[2]}`]
            : [];
      for (const text of texts) expect(parseRecipe(text), text).toHaveLength(2);
    }
  });
});

describe('illegal settings are refused with what is allowed', () => {
  test.each(SETTINGS)('%s', (recipe, message, value) => {
    const error = refusal(() => parseRecipe(recipe));
    expect(error).toMatchObject({ code: 'invalid_recipe', field: 'kv', value });
    expect(error.message).toMatch(message);
  });

  test('a method that needs a profile says so where there is none', () => {
    const model = { layers: 2, heads: 2, kvHeads: 1, group: 2, headDim: 32, rotary: 32, context: 512 };
    const shape = { ...model, layerWindow: [0, 0], fingerprint: 'f' };
    for (const method of METHODS.filter((entry: Method) => entry.profile && !entry.profileOptional)) {
      const error = refusal(() => createPolicies(parseRecipe(method.name), shape));
      expect(error).toMatchObject({ code: 'invalid_request', field: 'profile' });
      expect(error.message).toContain(method.name);
    }
  });
});

describe('at every entrance', () => {
  const kv = 'h2o + kivi';
  test('the engine: generate, load and score, before anything runs', () => {
    for (const run of [
      () => checkGenerate({ model: 'm', text: 'x', kv }, 100),
      () => checkLoad({ name: 'm', path: 'm.gguf', kv }),
      () => checkScore({ model: 'm', prompt: 'x', continuation: '', kv }, 100),
    ]) {
      expect(refusal(run)).toMatchObject({ code: 'invalid_recipe', field: 'kv', value: kv });
    }
  });

  test.each(['generate --prompt x', 'chat', 'serve', 'score --prompt x', 'eval'])('kvasir %s --kv', async command => {
    const run = await runCli([...command.split(' '), '--kv', kv]);
    expect(run).toMatchObject({ code: 2, stdout: '' });
    expect(run.stderr).toMatch(/^kvasir: h2o and kivi do not go together .*\(--kv: h2o \+ kivi\)\n$/);
  });

  test.each([
    [kv, 'kv', /h2o and kivi do not go together/],
    [[{ method: 'h2o' }, { method: 'kivi' }], 'kv', /h2o and kivi do not go together/],
    [[{ method: 'snapkv' }, { method: 'kivi', bits: 5 }], 'kv[1].bits', /bits must be 1, 2, 3, 4 or 8/],
    [{ method: 'snapvk' }, 'kv.method', /did you mean "snapkv"\?/],
    [7, 'kv', /not a step of a recipe/],
  ])('HTTP: "kv": %j', async (value, param, message) => {
    const engine = new EchoEngine();
    await engine.load({ name: 'echo', path: '' });
    const app = createApp(engine, { catalogue: echoCatalogue });
    for (const [path, input] of [
      ['/v1/chat/completions', { messages: [{ role: 'user', content: 'x' }] }],
      ['/v1/completions', { prompt: 'x' }],
    ] as const) {
      const response = await app.request(`http://localhost${path}`, {
        method: 'POST',
        headers: { host: 'localhost', 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'echo', kv: value, ...input }),
      });
      expect(response.status).toBe(400);
      const { error } = (await response.json()) as { error: { message: string } };
      expect(error).toMatchObject({ code: 'invalid_recipe', param, type: 'invalid_request_error' });
      expect(error.message).toMatch(message);
    }
    expect(engine.seen).toHaveLength(0);
  });
});
