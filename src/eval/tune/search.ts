import { KvasirError } from '../../errors.ts';
import { Draw } from '../draw.ts';
import { type Choice, pairsByLayer, prune, type Table, tables, thin } from './choices.ts';
import { clusterLayers } from './cluster.ts';
import type { Evaluator, Measured } from './evaluate.ts';
import { FORMATS, KEEPERS, KEEPS, type TunePlan } from './plan.ts';
import { recipeOf, type Sensitivity, sensitivity, WIDTHS } from './sensitivity.ts';

/** Bits of an element in exact pages, and of a scale with an offset beside a code. */
const EXACT_BITS = 32;
const PARAMETER_BITS = 32 / 32;

export interface Found {
  /** The best that meets the goal; null where nothing measured does. */
  readonly best: Measured | null;
  /** All that was measured in the search and that nothing else beats in bytes and KL, from few bytes to many. */
  readonly front: readonly Measured[];
  readonly sensitivity: Sensitivity;
  readonly groups: readonly (readonly number[])[];
  readonly measured: number;
}

type Progress = (what: string, done: number, total: number) => void;

/**
 * Sensitivities of each layer, pruned and clustered; then tables of widths, exact under damages that add up, alone and after
 * methods that drop tokens. What the sums promise is measured, the most promising first; then changes of one group at a time.
 * Every method that is tried alone takes part as it is, so the result is never worse than the best of them on what is searched.
 */
export async function search(
  evaluator: Evaluator,
  plan: TunePlan,
  layers: number,
  progress: Progress = () => {},
): Promise<Found> {
  const known = await sensitivity(evaluator, layers, plan.base, (done, total) => progress('sensitivity', done, total));
  // One layer's damage is no recipe to choose.
  const probes = new Set(evaluator.all.map(({ recipe }) => recipe));
  const layerChoices = Array.from({ length: layers }, (_, layer) => prune(choicesOf(known, layer)));
  const survivors = layerChoices.map(choices => choices.map(({ pair }) => `k${pair.k}v${pair.v}`).join());
  const groups = clusterLayers(
    survivors,
    known.k.map((line, layer) => [...line, ...known.v[layer]!]),
    0.35,
  );
  const grouped = groups.map(group => prune(groupChoices(known, group)));
  const front = tables(grouped);
  const space = new Space(evaluator, plan, layers, groups, grouped, front);
  await space.run(progress);
  return {
    best: space.best,
    front: frontOf(evaluator.all.filter(({ recipe }) => !probes.has(recipe))),
    sensitivity: known,
    groups,
    measured: evaluator.all.length,
  };
}

const WIDTH_OR_EXACT = [16, ...WIDTHS] as const;

function choicesOf({ k, v }: Sensitivity, layer: number): Choice[] {
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

/** What dropping tokens alone holds and loses. */
interface Before {
  readonly recipe: string;
  readonly held: number;
  readonly kl: number;
}

interface Candidate {
  readonly before: Before;
  readonly table: Table;
  readonly held: number;
  readonly kl: number;
}

class Space {
  readonly #evaluator: Evaluator;
  readonly #plan: TunePlan;
  readonly #layers: number;
  readonly #groups: readonly (readonly number[])[];
  readonly #choices: readonly (readonly Choice[])[];
  readonly #front: readonly Table[];
  #trials = 0;
  /** Entries at the end of a view that stay exact. */
  #exact = 96;
  /** The best so far; without a candidate: a method as it is. */
  #chosen: { candidate: Candidate | null; measured: Measured } | null = null;
  /** The best table so far: changes of it are tried. */
  #best: { candidate: Candidate; measured: Measured } | null = null;

  constructor(
    evaluator: Evaluator,
    plan: TunePlan,
    layers: number,
    groups: readonly (readonly number[])[],
    choices: readonly (readonly Choice[])[],
    front: readonly Table[],
  ) {
    this.#evaluator = evaluator;
    this.#plan = plan;
    this.#layers = layers;
    this.#groups = groups;
    this.#choices = choices;
    this.#front = thin(front, 400);
  }

  get best(): Measured | null {
    return this.#chosen?.measured ?? null;
  }

  async run(progress: Progress): Promise<void> {
    const befores = await this.#befores(progress);
    await this.#calibrate();
    const all = befores.flatMap(before => this.#front.map(table => this.#promise(before, table)));
    const order = this.#order(all);
    while (this.#trials < Math.ceil(this.#plan.trials * 0.6)) {
      const next = order.shift();
      if (!next) break;
      progress('recipes', this.#trials, this.#plan.trials);
      await this.#try(next);
    }
    await this.#refine(progress);
  }

  async #befores(progress: Progress): Promise<Before[]> {
    const keepers = ['', ...KEEPERS.flatMap(keeper => KEEPS.map(keeper))];
    const befores: Before[] = [];
    const total = keepers.length + FORMATS.length;
    for (const [i, recipe] of keepers.entries()) {
      progress('methods alone', i, total);
      const measured = await this.#evaluator.measure(recipe === '' ? 'full' : recipe);
      befores.push({ recipe, held: measured.held, kl: measured.kl });
      this.#consider(measured, null);
    }
    for (const [i, recipe] of FORMATS.entries()) {
      progress('methods alone', keepers.length + i, total);
      this.#consider(await this.#evaluator.measure(recipe), null);
    }
    return befores;
  }

  /** One table is measured, to learn which share of the entries its quantizer leaves exact. */
  async #calibrate(): Promise<void> {
    const table = this.#front[this.#front.length >> 1]!;
    const pairs = pairsByLayer(table, this.#groups, this.#layers);
    if (pairs === 'k16v16') return;
    const { held } = await this.#evaluator.measure(recipeOf(pairs, this.#plan.base));
    const coded = table.bits / (2 * EXACT_BITS * this.#layers);
    this.#exact = Math.max(0, Math.min(1, (held / this.#fullHeld - coded) / (1 - coded))) * this.#plan.length;
  }

  /** What a table after an eviction should hold and lose. */
  #promise(before: Before, table: Table): Candidate {
    const full = 2 * EXACT_BITS * this.#layers;
    const kept = (before.held / this.#fullHeld) * this.#plan.length;
    const exact = Math.min(1, this.#exact / kept);
    const share = exact + (1 - exact) * (table.bits / full);
    return { before, table, held: before.held * share, kl: before.kl + table.damage };
  }

  get #fullHeld(): number {
    return this.#evaluator.all.find(({ recipe }) => recipe === 'full')!.held;
  }

  /** The most promising first: under a limit of bytes the least damage, else few bytes among those that should agree enough. */
  #order(all: readonly Candidate[]): Candidate[] {
    const { goal } = this.#plan;
    if ('memory' in goal) {
      // What promises a little too much may still fit, and the other way round: the limit is tried from both sides.
      const near = all.filter(({ held }) => held <= goal.memory * 1.03);
      return near.sort((a, b) => a.kl - b.kl);
    }
    // Disagreement grows about with the root of the divergence; the scale is taken from what has been measured.
    const points = this.#evaluator.all.filter(({ kl, agreement }) => kl > 1e-5 && agreement < 1);
    const ratios = points.map(({ kl, agreement }) => (1 - agreement) / Math.sqrt(kl)).sort((a, b) => a - b);
    const scale = ratios[ratios.length >> 1] ?? 0.5;
    const limit = ((1 - goal.agreement) / scale) ** 2;
    const hopeful = all.filter(({ kl }) => kl <= Math.max(limit * 2, 1e-6)).sort((a, b) => a.held - b.held);
    const bits = Math.max(1, Math.floor(hopeful.length / 200));
    return hopeful.filter((_, i) => i % bits === 0);
  }

  async #try(candidate: Candidate): Promise<void> {
    const { before, table } = candidate;
    const pairs = pairsByLayer(table, this.#groups, this.#layers);
    const exact = pairs === 'k16v16';
    const recipe = exact ? before.recipe || 'full' : recipeOf(pairs, this.#plan.base, before.recipe);
    this.#trials++;
    this.#consider(await this.#evaluator.measure(recipe), candidate);
  }

  #consider(measured: Measured, candidate: Candidate | null): void {
    if (!this.#meets(measured)) return;
    if (!this.#chosen || this.#better(measured, this.#chosen.measured)) this.#chosen = { candidate, measured };
    if (candidate && (!this.#best || this.#better(measured, this.#best.measured))) this.#best = { candidate, measured };
  }

  #meets({ held, agreement }: Measured): boolean {
    const { goal } = this.#plan;
    return 'memory' in goal ? held <= goal.memory : agreement >= goal.agreement;
  }

  #better(a: Measured, b: Measured): boolean {
    return 'memory' in this.#plan.goal ? a.kl < b.kl : a.held < b.held || (a.held === b.held && a.kl < b.kl);
  }

  /** Changes of one or two groups of the best so far, drawn at random; a change that helps is kept. */
  async #refine(progress: Progress): Promise<void> {
    const draw = new Draw(`tune/${this.#plan.seed}`);
    const tried = new Set<string>();
    for (let misses = 0; this.#best && this.#trials < this.#plan.trials && misses < 200; ) {
      progress('recipes', this.#trials, this.#plan.trials);
      const { candidate } = this.#best;
      const pairs = [...candidate.table.pairs];
      for (let change = 0; change < draw.between(1, 2); change++) {
        const group = draw.between(0, pairs.length - 1);
        pairs[group] = draw.choice(this.#choices[group]!).pair;
      }
      const key = JSON.stringify([candidate.before.recipe, pairs]);
      if (tried.has(key)) {
        misses++;
        continue;
      }
      tried.add(key);
      const sums = pairs.map(
        (pair, g) => this.#choices[g]!.find(each => each.pair.k === pair.k && each.pair.v === pair.v)!,
      );
      const table = {
        pairs,
        bits: sums.reduce((sum, { bits }) => sum + bits, 0),
        damage: sums.reduce((sum, { damage }) => sum + damage, 0),
      };
      const next = this.#promise(candidate.before, table);
      const { goal } = this.#plan;
      const hopeless = 'memory' in goal ? next.held > goal.memory * 1.05 : next.held > candidate.held;
      if (hopeless) {
        misses++;
        continue;
      }
      await this.#try(next);
    }
  }
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
