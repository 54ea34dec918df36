import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Kernels } from '../src/backend/types.ts';
import { calibrate } from '../src/engine/calibrate/index.ts';
import type { LoadedModel } from '../src/engine/loaded-model.ts';
import { isOfProbe, isOfRows } from '../src/engine/sense/requests.ts';
import { memberOf } from '../src/methods/composition.ts';
import { describeMethod } from '../src/methods/describe.ts';
import { METHODS } from '../src/methods/index.ts';
import { parseRecipe } from '../src/methods/recipe.ts';
import type { Method } from '../src/methods/types.ts';
import { testPath } from './golden.ts';
import { openKernels, openLoaded } from './models.ts';
import { force, Written } from './recipes.ts';

/** Settings under which a method has something to do in a prompt of a hundred tokens and a model of few layers. */
const SMALL: Readonly<Record<string, string>> = {
  random: 'keep=0.4',
  'streaming-llm': 'budget=48',
  h2o: 'keep=0.4',
  tova: 'budget=48',
  snapkv: 'keep=0.4, window=8',
  treekv: 'budget=48',
  pyramidkv: 'keep=0.4, window=8',
  adakv: 'keep=0.4, window=8',
  cake: 'budget=48, window=8',
  windowkv: 'keep=0.4, window=8',
  kvcrush: 'keep=0.4, window=8',
  epicache: 'keep=0.4, block=128, segment=32',
  'gui-kv': 'keep=0.4',
  'razor-attention': 'minimum=32',
  prefixkv: 'keep=0.4, search=prompt',
  mpcache: 'keep=0.6, size=8',
  fastkv: 'keep=0.4, layer=0, window=8',
  ems: 'keep=0.4, theta=0.1, window=8',
  kvmerger: 'epsilon=0.3, skipFirst=0, skipLast=0',
  minicache: 'start=0',
  xkv: 'group=2, ratioK=0.5, ratioV=0.5, always=true',
  kivi: 'residual=64',
  zipcache: 'buffer=64',
  rotatekv: 'group=32',
  vidkv: 'buffer=64, protect=0.25',
  louiskv: 'budget=32, recent=32',
  leoam: 'most=32, recent=32, resident=64',
  actqkv: 'block=16, blocks=2, least=1, most=3, sinks=16, local=32, window=64, warmup=1, history=4, resident=64',
};
/** Settings under which a method goes together with others, or does something else. */
const OTHER: Readonly<Record<string, readonly string[]>> = {
  'razor-attention': ['compensate=false'],
  kvcrush: ['form=blocks'],
  snapkv: ['evict=chunk, chunk=64'],
  minicache: ['retain=none'],
  rotatekv: ['peaks=0', 'heads=1, peaks=0'],
  vidkv: ['protect=0'],
  ems: ['decode=grow'],
};

const methods = (METHODS as readonly Method[]).filter(({ name }) => name !== 'full');
/** A step with more options, or with others for those that it has. */
function withOptions(step: string, more = ''): string {
  const [, name, given] = /^([^(]+)(?:\((.*)\))?$/.exec(step)!;
  const options = new Map<string, string>();
  for (const text of [given, more])
    for (const option of text ? text.split(', ') : []) options.set(option.split('=')[0]!, option);
  return options.size > 0 ? `${name}(${[...options.values()].join(', ')})` : name!;
}
const small = (name: string, more?: string) => withOptions(SMALL[name] ? `${name}(${SMALL[name]})` : name, more);
/** The settings that `worksAs` names, in their methods' small forms. */
const asDescribed = methods.flatMap(method =>
  describeMethod(method).worksAs.flatMap(recipe =>
    recipe.split(' + ').map(step => small(step.split('(')[0]!, /\((.*)\)/.exec(step)?.[1])),
  ),
);
const forms = [
  ...new Set([
    ...methods.flatMap(({ name }) => [small(name), ...(OTHER[name] ?? []).map(more => small(name, more))]),
    ...asDescribed,
  ]),
];

let kernels: Kernels;
let model: LoadedModel;

beforeAll(async () => {
  kernels = await openKernels(2);
  model = await openLoaded(kernels, testPath('models/qwen3'), { tile: 256, deterministic: true });
  const text = Array.from({ length: 400 }, (_, i) => `${(i * 7919) % 1000} `).join('');
  for (const { profile } of methods) if (profile) await calibrate(model, profile, text);
}, 120_000);

afterAll(() => {
  expect(model?.cache.stats().sequences).toBe(0);
});

const tokens = (n: number, seed: number) =>
  Array.from({ length: n }, (_, i) => 3 + (((i * 7919 + seed * 104729) ^ (i >> 3)) % (model.info.vocab - 4)));

/** A prompt, steps that fill a page, a second turn, a fork, and steps of both. */
async function run(recipe: string): Promise<void> {
  using written = new Written(model, recipe);
  const logits = [await written.prompt(tokens(125, 1)), ...(await force(written, tokens(4, 2)))];
  logits.push(await written.prompt(tokens(60, 3)));
  using fork = written.fork();
  logits.push(...(await force(fork, tokens(5, 4))), ...(await force(written, tokens(5, 5))));
  for (const row of logits) expect(row.every(Number.isFinite), recipe).toBe(true);
}

function refusal(recipe: string): string | null {
  try {
    parseRecipe(recipe);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

/** The recipe that a refusal recommends by naming a setting, an order, or both. */
function settled(steps: readonly string[], message: string): string | null {
  const [, setting, name] = /; set (\S+=\S+) in ([\w-]+)/.exec(message) ?? [];
  const turned = /write \S+ before \S+$/.test(message);
  if (!setting && !turned) return null;
  const set = steps.map(step => (setting && step.split('(')[0] === name ? withOptions(step, setting) : step));
  return (turned ? set.reverse() : set).join(' + ');
}

const done = new Set<string>();

test.each(forms)('%s goes with all that the rules let follow it, at every turn', async first => {
  const recipes = new Set<string>([first]);
  for (const second of forms) {
    const recipe = `${first} + ${second}`;
    const message = refusal(recipe);
    const other = message === null ? recipe : settled([first, second], message);
    if (!other || done.has(other)) continue;
    expect(refusal(other), `${recipe}: ${message}`).toBeNull();
    recipes.add(other);
    done.add(other);
  }
  for (const recipe of recipes) await run(recipe).catch(cause => expect.fail(`${recipe}: ${cause.message}`));
});

test.each(forms)('%s: its traits say when it looks at a layer', form => {
  const [step] = parseRecipe(form);
  const { traits } = memberOf(step!);
  const { policy } = model.program(form)!.parts[0]!;
  const layers = Array.from({ length: model.info.layers }, (_, layer) => layer);
  const late = layers.some(layer => (policy.settles?.(layer) ?? layer) > layer);
  expect(traits.settlesLate ?? false).toBe(late);
  const asked = layers.flatMap(layer => policy.sense?.(layer) ?? []);
  // Keep comes first: its methods never follow one that settles late.
  if (traits.stage === 'keep') return;
  expect(traits.needsPrompt ?? false).toBe(asked.some(request => isOfRows(request) && !isOfProbe(request)));
});
