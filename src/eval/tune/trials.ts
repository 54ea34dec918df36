import { Draw } from '../draw.ts';
import { pairsByLayer, type Table } from './choices.ts';
import type { Evaluator, Measured } from './evaluate.ts';
import { better, meets } from './goal.ts';
import { Lane } from './lane.ts';
import { KEEPERS, KEEPS, type TunePlan } from './plan.ts';
import { recipeOf } from './sensitivity.ts';
import type { Space } from './space.ts';

/** Share of the trials that goes to what is promised, before changes are drawn; and to one lane of these at most. */
const PROMISED_SHARE = 0.6;
const LANE_TRIALS = 5;
/** Entries of a view that stay exact between two encodings, about. */
const EXACT_ENTRIES = { kivi: 96, page: 64, token: 64 };

/**
 * Tables of widths alone and after methods that drop tokens: what is promised the most is measured first, and what it measures
 * corrects what is promised next; then changes of one or two groups of the best, at random.
 */
export async function tableTrials(
  evaluator: Evaluator,
  plan: TunePlan,
  layers: number,
  spaces: readonly Space[],
  progress: (what: string, done: number, total: number) => void,
): Promise<Measured[]> {
  const { goal, trials } = plan;
  const full = await evaluator.measure('full');
  const measured = [full];
  const lanes: Lane[] = [];
  const befores = ['', ...KEEPERS.flatMap(keeper => KEEPS.map(keeper))];
  for (const [i, before] of befores.entries()) {
    progress('evictions', i, befores.length);
    const alone = before === '' ? full : await evaluator.measure(before);
    measured.push(alone);
    const allowed = 'agreement' in goal ? allowedLoss(evaluator.all, goal.agreement) : 0;
    for (const space of spaces) {
      const exact = (EXACT_ENTRIES[space.base] * full.held) / (plan.length * alone.held);
      lanes.push(new Lane(before, alone, space, layers, exact, allowed));
    }
  }

  let done = 0;
  const trial = async (lane: Lane, table: Table): Promise<void> => {
    progress('recipes', done++, trials);
    const pairs = pairsByLayer(table, lane.space.groups, layers);
    const recipe = pairs === 'k16v16' ? lane.before || 'full' : recipeOf(pairs, lane.space.base, lane.before);
    const one = await evaluator.measure(recipe);
    measured.push(one);
    const met = meets(goal, one);
    lane.learn(table, one, met);
    if (met && (!lane.best || better(goal, one, lane.best.measured))) lane.best = { table, measured: one };
  };

  while (done < trials * PROMISED_SHARE) {
    let next: { lane: Lane; table: Table; rank: number } | null = null;
    for (const lane of lanes) {
      const table = lane.trials < LANE_TRIALS ? lane.next(goal) : null;
      if (!table) continue;
      const rank = 'memory' in goal ? lane.kl(table) : lane.held(table);
      if (!next || rank < next.rank) next = { lane, table, rank };
    }
    if (!next) break;
    await trial(next.lane, next.table);
  }
  const draw = new Draw(`tune/${plan.seed}`);
  for (let misses = 0; done < trials && misses < 200; ) {
    const best = ranked(lanes, plan).slice(0, 2);
    if (best.length === 0) break;
    const lane = draw.choice(best);
    const table = changed(lane.best!.table, lane.space.choices, draw);
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
export function allowedLoss(all: readonly Measured[], agreement: number): number {
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
