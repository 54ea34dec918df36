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

/** Agreement of one window that is so far below what is asked for is a miss. */
const FAR = 0.03;

export interface Alone {
  /** On all windows. */
  readonly measured: Measured[];
  /** What one window told to be out of the question: too many bytes, or too little agreement. */
  readonly over: Measured[];
}

/**
 * Measures one method at settings near a goal: of a method with a share to keep, on the way to the share that just meets it; of a
 * ladder down to the settings that do. A look at one window tells which settings are worth the others.
 * Ends early where the model or the length cannot have the method.
 * @param least bytes of the best that is known to meet an agreement: what holds more is not measured further
 */
export async function measureSingle(
  evaluator: Evaluator,
  single: Single,
  goal: Goal,
  least = Number.POSITIVE_INFINITY,
): Promise<Alone> {
  const alone: Alone = { measured: [], over: [] };
  try {
    if ('memory' in goal) await within(evaluator, single, goal.memory, alone);
    else await agreeing(evaluator, single, goal, least, alone);
  } catch (error) {
    if (!(error instanceof KvasirError) || error.code === 'aborted') throw error;
  }
  return alone;
}

/** Fewer bytes lose more: the settings of a ladder that fit first are enough, and the greatest share that does. */
async function within(evaluator: Evaluator, single: Single, memory: number, { measured, over }: Alone): Promise<void> {
  const fits = async (recipe: string): Promise<boolean> => {
    const look = await evaluator.look(recipe);
    if (look.held > memory * 1.03) {
      over.push(look);
      return false;
    }
    const one = await evaluator.measure(recipe);
    (one.held <= memory ? measured : over).push(one);
    return one.held <= memory;
  };
  if ('ladder' in single) {
    for (const recipe of single.ladder) if ((await fits(recipe)) && measured.length >= FITTING) return;
    return;
  }
  const best = await shareWithin(evaluator, single.at, memory);
  // The mean over all windows may be a little more than the first one's bytes.
  for (let keep = best; keep > 0 && !(await fits(single.at(keep))); keep = rounded(keep - 2 * NEAR))
    if (keep <= best - 6 * NEAR) return;
}

/**
 * The greatest share that one window's bytes allow, 0 where there is none. Bytes follow the share in steps of a page: the
 * difference to the limit leads at first, then bounds on both sides are halved.
 */
async function shareWithin(evaluator: Evaluator, at: (keep: number) => string, memory: number): Promise<number> {
  const full = (await evaluator.look('full')).held;
  let [low, high] = [0, 1];
  let keep = memory / full;
  for (let look = 0; look < LOOKS && high - low > NEAR; look++) {
    keep = rounded(keep);
    const { held } = await evaluator.look(at(keep));
    if (held <= memory) low = Math.max(low, keep);
    else high = Math.min(high, keep);
    if (held <= memory && held >= FULL_ENOUGH * memory) break;
    const guess = look < 2 ? keep + (memory - held) / full : 0;
    keep = guess > low + NEAR / 2 && guess < high - NEAR / 2 ? guess : (low + high) / 2;
  }
  return low;
}

/** The least bytes at an agreement: what comes after a miss is worse, and between a share that meets it and one that does not is another. */
async function agreeing(
  evaluator: Evaluator,
  single: Single,
  goal: { readonly agreement: number },
  least: number,
  { measured, over }: Alone,
): Promise<void> {
  const meetsIt = async (recipe: string): Promise<boolean> => {
    const look = await evaluator.look(recipe);
    const far = look.agreement < goal.agreement - FAR;
    // Whether it meets the agreement does not matter then: only fewer bytes could help.
    if (far || look.held > least) {
      over.push(look);
      return !far;
    }
    const one = await evaluator.measure(recipe);
    measured.push(one);
    return meets(goal, one);
  };
  if ('ladder' in single) {
    for (const recipe of single.ladder) if (!(await meetsIt(recipe))) return;
    return;
  }
  let [low, high] = [0, 1];
  for (let look = 0; look < LOOKS && high - low > NEAR; look++) {
    const keep = rounded((low + high) / 2);
    if (await meetsIt(single.at(keep))) high = keep;
    else low = keep;
  }
}

const rounded = (keep: number): number => Math.min(1, Math.max(0.001, Math.round(keep * 1000) / 1000));
