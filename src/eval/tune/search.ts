import { KvasirError } from '../../errors.ts';
import { Draw } from '../draw.ts';
import { type Choice, pairsByLayer, prune, type Table, tables, thin } from './choices.ts';
import { clusterLayers } from './cluster.ts';
import type { Evaluator, Measured } from './evaluate.ts';
import { bestOf, better, meets } from './goal.ts';
import { EXACT_BITS, Lane, PARAMETER_BITS } from './lane.ts';
import { measureMixes } from './mixes.ts';
import { KEEPERS, KEEPS, type TunePlan } from './plan.ts';
import { recipeOf, type Sensitivity, sensitivity, WIDTHS } from './sensitivity.ts';
import { measureSingle, singles } from './singles.ts';

export interface Found {
  /** The best that meets the goal; null where nothing measured does. */
  readonly best: Measured | null;
  /** All that was measured in the search and that nothing else beats in bytes and KL, from few bytes to many. */
  readonly front: readonly Measured[];
  readonly sensitivity: Sensitivity;
  readonly groups: readonly (readonly number[])[];
  readonly measured: number;
}

export type Progress = (what: string, done: number, total: number) => void;

/**
 * Sensitivities of each layer, pruned and clustered; then tables of widths, exact under damages that add up, alone and after
 * methods that drop tokens. What the sums promise is measured, the most promising first; then changes of one or two groups; then
 * other encoders after methods that drop tokens. Every method takes part as it is, too, so the result is never worse than the best
 * of them on what is searched.
 */
export async function search(
  evaluator: Evaluator,
  plan: TunePlan,
  layers: number,
  progress: Progress = () => {},
): Promise<Found> {
  const known = await sensitivity(evaluator, layers, plan.base, (done, total) => progress('sensitivity', done, total));
  const space = spaceOf(known, layers);
  const single = await alone(evaluator, plan, progress);
  const mixed = Math.ceil(plan.trials * MIXES_SHARE);
  const tables = await lanes(evaluator, { ...plan, trials: plan.trials - mixed }, layers, space, progress);
  const loss = 'agreement' in plan.goal ? allowed(evaluator.all, plan.goal.agreement) : 0;
  const mixes = await measureMixes(evaluator, plan.goal, single, loss, mixed, done => progress('mixes', done, mixed));
  const candidates = [...single, ...tables, ...mixes];
  return {
    best: bestOf(plan.goal, candidates),
    front: frontOf(candidates),
    sensitivity: known,
    groups: space.groups,
    measured: evaluator.all.length,
  };
}

export interface Space {
  readonly groups: readonly (readonly number[])[];
  /** What a group may choose, pruned. */
  readonly choices: readonly (readonly Choice[])[];
  /** Tables that no other beats where damages add up. */
  readonly front: readonly Table[];
}

export function spaceOf(known: Sensitivity, layers: number): Space {
  const layerChoices = Array.from({ length: layers }, (_, layer) => prune(choicesOf(known, layer)));
  const survivors = layerChoices.map(choices => choices.map(({ pair }) => `k${pair.k}v${pair.v}`).join());
  const damages = known.k.map((line, layer) => [...line, ...known.v[layer]!]);
  const groups = clusterLayers(survivors, damages, 0.35);
  const choices = groups.map(group => prune(groupChoices(known, group)));
  return { groups, choices, front: thin(tables(choices), 2000) };
}

/** Every method alone, near the goal. */
async function alone(evaluator: Evaluator, { goal }: TunePlan, progress: Progress): Promise<Measured[]> {
  const measured: Measured[] = [];
  const methods = singles();
  for (const [i, single] of methods.entries()) {
    progress('methods alone', i, methods.length);
    measured.push(...(await measureSingle(evaluator, single, goal)));
  }
  return measured;
}

/** Share of the trials that goes to encoders other than tables. */
const MIXES_SHARE = 0.3;

/** Lanes that go on after the first round, and the share of the trials that their tables take before changes are drawn. */
const BEST_LANES = 4;
const TABLES_SHARE = 0.6;

async function lanes(
  evaluator: Evaluator,
  plan: TunePlan,
  layers: number,
  space: Space,
  progress: Progress,
): Promise<Measured[]> {
  const { goal, trials } = plan;
  const full = await evaluator.measure('full');
  const measured = [full];
  const all: Lane[] = [];
  const befores = ['', ...KEEPERS.flatMap(keeper => KEEPS.map(keeper))];
  for (const [i, before] of befores.entries()) {
    progress('evictions', i, befores.length);
    const base = before === '' ? full : await evaluator.measure(before);
    measured.push(base);
    // On the average the last page and a half.
    const exact = (96 * full.held) / (plan.length * base.held);
    all.push(new Lane(before, base, layers, exact, 'agreement' in goal ? allowed(evaluator.all, goal.agreement) : 0));
  }

  let done = 0;
  const trial = async (lane: Lane, table: Table): Promise<void> => {
    progress('recipes', done++, trials);
    const pairs = pairsByLayer(table, space.groups, layers);
    const recipe = pairs === 'k16v16' ? lane.before || 'full' : recipeOf(pairs, plan.base, lane.before);
    const one = await evaluator.measure(recipe);
    measured.push(one);
    const met = meets(goal, one);
    lane.learn(table, one, met);
    if (met && (!lane.best || better(goal, one, lane.best.measured))) lane.best = { table, measured: one };
  };

  // Each lane twice: the first try tells how far promises are off. Then the best of them.
  let running = all;
  for (let round = 0; running.length > 0 && done < trials * TABLES_SHARE; round++) {
    if (round === 2) running = ranked(all, plan).slice(0, BEST_LANES);
    const left: Lane[] = [];
    for (const lane of running) {
      const table = lane.next(goal, space.front);
      if (!table || done >= trials * TABLES_SHARE) continue;
      await trial(lane, table);
      left.push(lane);
    }
    running = left;
  }
  const draw = new Draw(`tune/${plan.seed}`);
  for (let misses = 0; done < trials && misses < 200; ) {
    const best = ranked(all, plan).slice(0, 2);
    if (best.length === 0) break;
    const lane = draw.choice(best);
    const table = changed(lane.best!.table, space.choices, draw);
    const hopeless = 'memory' in goal ? lane.held(table) > goal.memory : lane.held(table) > lane.best!.measured.held;
    if (hopeless || lane.tried(table)) misses++;
    else await trial(lane, table);
  }
  return measured;
}

/** Lanes in which the goal was met, the best first. */
function ranked(all: readonly Lane[], { goal }: TunePlan): Lane[] {
  return all.filter(({ best }) => best).sort((a, b) => (better(goal, a.best!.measured, b.best!.measured) ? -1 : 1));
}

/** Disagreement grows about with the root of the divergence; the scale is taken from what has been measured. */
function allowed(all: readonly Measured[], agreement: number): number {
  const ratios = all
    .filter(one => one.kl > 1e-5 && one.agreement < 1)
    .map(one => (1 - one.agreement) / Math.sqrt(one.kl))
    .sort((a, b) => a - b);
  return Math.max(1e-6, ((1 - agreement) / (ratios[ratios.length >> 1] ?? 0.5)) ** 2);
}

/** One or two groups with another choice, drawn at random. */
function changed(table: Table, choices: Space['choices'], draw: Draw): Table {
  const pairs = [...table.pairs];
  const changes = draw.between(1, 2);
  for (let change = 0; change < changes; change++) {
    const group = draw.between(0, pairs.length - 1);
    pairs[group] = draw.choice(choices[group]!).pair;
  }
  const chosen = pairs.map((pair, g) => choices[g]!.find(({ pair: { k, v } }) => k === pair.k && v === pair.v)!);
  return {
    pairs,
    bits: chosen.reduce((sum, { bits }) => sum + bits, 0),
    damage: chosen.reduce((sum, { damage }) => sum + damage, 0),
  };
}

const WIDTH_OR_EXACT = [16, ...WIDTHS] as const;

/** All pairs of one layer; damages of its planes add up. */
export function choicesOf({ k, v }: Sensitivity, layer: number): Choice[] {
  const damage = (line: readonly number[], bits: number) => (bits === 16 ? 0 : line[WIDTHS.indexOf(bits as 8)]!);
  return WIDTH_OR_EXACT.flatMap(kBits =>
    WIDTH_OR_EXACT.map(vBits => ({
      pair: { k: kBits, v: vBits },
      bits: held(kBits) + held(vBits),
      damage: damage(k[layer]!, kBits) + damage(v[layer]!, vBits),
    })),
  );
}

const held = (bits: number): number => (bits === 16 ? EXACT_BITS : bits + PARAMETER_BITS);

function groupChoices(known: Sensitivity, group: readonly number[]): Choice[] {
  const each = group.map(layer => choicesOf(known, layer));
  return each[0]!.map(({ pair }, i) => ({
    pair,
    bits: each.reduce((sum, choices) => sum + choices[i]!.bits, 0),
    damage: each.reduce((sum, choices) => sum + choices[i]!.damage, 0),
  }));
}

export function frontOf(all: readonly Measured[]): Measured[] {
  const front: Measured[] = [];
  for (const measured of [...all].sort((a, b) => a.held - b.held || a.kl - b.kl))
    if (front.length === 0 || measured.kl < front.at(-1)!.kl) front.push(measured);
  return front;
}

/** @throws KvasirError `invalid_request` that says how near the search came */
export function goalNotMet(plan: TunePlan, all: readonly Measured[]): KvasirError {
  const { goal } = plan;
  const least = Math.min(...all.map(({ held }) => held));
  const most = Math.max(...all.map(({ agreement }) => agreement));
  return 'memory' in goal
    ? new KvasirError('invalid_request', 'no recipe that was tried holds so little', {
        field: 'memory',
        value: goal.memory,
        allowed: `at least ${Math.ceil(least)} bytes at ${plan.length} tokens, the least that was measured`,
      })
    : new KvasirError('invalid_request', 'no recipe that was tried agrees so well', {
        field: 'agreement',
        value: goal.agreement,
        allowed: `at most ${most}, the most that was measured`,
      });
}
