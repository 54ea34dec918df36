import { KvasirError } from '../../errors.ts';
import { METHODS } from '../../methods/index.ts';
import { optionsOf } from '../../methods/options.ts';
import type { Method } from '../../methods/types.ts';
import type { Evaluator, Measured } from './evaluate.ts';
import { type Goal, meets } from './goal.ts';

/** A method alone: by the share of the tokens that it keeps, or by settings from the most bytes to the fewest. */
export type Single =
  | { readonly method: string; readonly at: (keep: number) => string }
  | { readonly method: string; readonly ladder: readonly string[] };

const ladder = (method: string, options: readonly string[]): Single => ({
  method,
  ladder: options.map(text => `${method}(${text})`),
});
const bits = (method: string, widths: readonly number[], more = ''): Single =>
  ladder(
    method,
    widths.map(width => `bits=${width}${more}`),
  );

/** Of methods that have no share to keep, or whose share alone does not bring the bytes down. */
const OWN: readonly Single[] = [
  bits('kivi', [8, 4, 3, 2], ', residual=64'),
  bits('gear', [8, 4, 2]),
  bits('kvquant', [4, 3, 2]),
  bits('rotatekv', [4, 3, 2]),
  ladder('vidkv', ['bitsK=2, bitsV=2, buffer=64', 'buffer=64', 'bitsK=1.25, group=64, buffer=64']),
  ladder(
    'zipcache',
    ['0, bitsSalient=8', '0', '0.3', '0.6', '0, bitsSalient=3', '0.9', '1'].map(text => `buffer=64, regular=${text}`),
  ),
  ladder('mikv', [
    'important=0.3',
    'important=0.1',
    'important=0.1, bitsImportant=8',
    'important=0.1, bitsImportant=4',
    'important=0',
  ]),
  ladder(
    'kvtuner',
    ['k8v8', 'k8v4', 'k4v4', 'k4v3', 'k3v3', 'k4v2', 'k3v2', 'k2v2'].flatMap(pairs => [
      `pairs=${pairs}`,
      `pairs=${pairs}, base=page`,
    ]),
  ),
  ladder('minicache', ['start=0.5', 'start=0, retain=share', 'start=0, retain=share, bits=8']),
  ladder('xkv', ['ratioK=0.25, ratioV=0.375', 'ratioK=0.125, ratioV=0.1875', 'ratioK=0.06, ratioV=0.09']),
  ladder('razor-attention', ['minimum=16, divisor=3', 'minimum=16, divisor=8', 'minimum=16, divisor=20']),
  {
    method: 'kvmerger',
    at: keep => {
      const part = (0.3 * keep).toFixed(3);
      return `kvmerger(keep=${keep}, recent=${part}, heavy=${part}, skipFirst=0, skipLast=0)`;
    },
  },
];

/**
 * Every registered method by itself, but for the controls: they take part in a search, and a tuned recipe is held against them at
 * equal bytes. One without a share and without settings above takes part as it is.
 */
export function singles(): readonly Single[] {
  return (METHODS as readonly Method[])
    .filter(({ family }) => family !== 'control')
    .map(method => OWN.find(single => single.method === method.name) ?? byOptions(method));
}

/** What goes with a share: scores pooled over so many tokens that a number of seven digits stays whole, positions left alone. */
const WITH_SHARE: Readonly<Record<string, string>> = { width: 'width=15', positions: 'positions=kept' };

function byOptions(method: Method): Single {
  const { name } = method;
  const names = optionsOf(method).map(option => option.name);
  if (!names.includes('keep')) return { method: name, ladder: [name] };
  const more = names.flatMap(option => WITH_SHARE[option] ?? []);
  return { method: name, at: keep => `${name}(${[`keep=${keep}`, ...more].join(', ')})` };
}

/** Measurements spent on the share of one method. */
const LOOKS = 5;
/** A share is settled where what fits and what does not are as near as this, or where so much of a limit of bytes is used. */
const NEAR = 0.004;
const FULL_ENOUGH = 0.97;
/** Settings of a ladder that meet a limit of bytes, before it ends. */
const FITTING = 2;

/**
 * Measures one method at settings near a goal: of a method with a share to keep, on the way to the share that just meets it; of a
 * ladder down to the settings that do. Ends early where the model or the length cannot have the method.
 */
export async function measureSingle(evaluator: Evaluator, single: Single, goal: Goal): Promise<readonly Measured[]> {
  const measured: Measured[] = [];
  try {
    if ('at' in single) await byShare(evaluator, single.at, goal, measured);
    else await down(evaluator, single.ladder, goal, measured);
  } catch (error) {
    if (!(error instanceof KvasirError) || error.code === 'aborted') throw error;
  }
  return measured;
}

/** Fewer bytes lose more: under a limit of bytes the first that fit are enough, under one of loss what comes after a miss is. */
async function down(evaluator: Evaluator, recipes: readonly string[], goal: Goal, measured: Measured[]): Promise<void> {
  for (const recipe of recipes) {
    measured.push(await evaluator.measure(recipe));
    const met = measured.filter(one => meets(goal, one)).length;
    if ('memory' in goal ? met >= FITTING : met < measured.length) return;
  }
}

/** Bytes follow the share in steps of a page: the difference to the limit leads at first, then bounds on both sides are halved. */
async function byShare(
  evaluator: Evaluator,
  at: (keep: number) => string,
  goal: Goal,
  measured: Measured[],
): Promise<void> {
  const full = (await evaluator.measure('full')).held;
  let [low, high] = [0, 1];
  let keep = 'memory' in goal ? goal.memory / full : 0.5;
  for (let look = 0; look < LOOKS && high - low > NEAR; look++) {
    keep = rounded(keep);
    const one = await evaluator.measure(at(keep));
    measured.push(one);
    // Under a limit of bytes the greatest share that meets it, else the least.
    const up = meets(goal, one) === 'memory' in goal;
    if (up) low = Math.max(low, keep);
    else high = Math.min(high, keep);
    if ('memory' in goal && up && one.held >= FULL_ENOUGH * goal.memory) return;
    const guess = 'memory' in goal && look < 2 ? keep + (goal.memory - one.held) / full : 0;
    keep = guess > low + NEAR / 2 && guess < high - NEAR / 2 ? guess : (low + high) / 2;
  }
}

const rounded = (keep: number): number => Math.min(1, Math.max(0.001, Math.round(keep * 1000) / 1000));
