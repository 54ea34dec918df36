import type { LoadedModel } from '../../src/engine/loaded-model.ts';
import { Draw } from '../../src/eval/draw.ts';
import type { Task } from '../../src/eval/tasks/types.ts';
import { Evaluator, type Measured, windowsIn } from '../../src/eval/tune/evaluate.ts';
import { bestOf, type Goal } from '../../src/eval/tune/goal.ts';
import { bitsHeld } from '../../src/eval/tune/lane.ts';
import { checkTune, type TunePlan, USUAL_BASES } from '../../src/eval/tune/plan.ts';
import { type Found, goalNotMet, search } from '../../src/eval/tune/search.ts';
import { recipeOf, type Sensitivity, sensitivity, spearman, WIDTHS } from '../../src/eval/tune/sensitivity.ts';
import { named } from '../../src/eval/tune/tune.ts';
import { type Verdict, verify } from '../../src/eval/tune/verify.ts';
import { BASES, type Base, formatPairs, type Pair, parsePairs } from '../../src/methods/format/kvtuner.ts';
import { parseRecipe } from '../../src/methods/recipe.ts';

export interface TuneSize {
  readonly length: number;
  readonly steps: number;
  readonly windows: number;
  readonly heldOut: number;
  readonly trials: number;
  readonly n: number;
  readonly seed: number;
}

/** One goal: what was found, and how it stands on text and tasks that were not searched on. */
export interface TunedPart {
  readonly kind: 'tuned';
  readonly goal: Goal;
  /** Bytes of the full f32 cache. */
  readonly full: number;
  readonly recipe: string;
  /** The found recipe and the best of one method, as measured on what was searched. */
  readonly searched: Measured;
  readonly front: readonly Measured[];
  readonly groups: readonly Pick<Found['bases'][number], 'base' | 'groups'>[];
  readonly verdict: Verdict;
}

/** The best table of widths found within a limit, among random tables of the same bits, on held-out text. */
export interface RandomPart {
  readonly kind: 'random';
  readonly memory: number;
  readonly bits: number;
  readonly searched: Measured;
  readonly random: readonly Measured[];
}

/** Keys first against values first, of the same bytes: all layers at once, and layers in which keys first lose less. */
export interface PairsPart {
  readonly kind: 'pairs';
  readonly rows: readonly {
    readonly base: string;
    /** Bits of the plane that comes first, and of the other. */
    readonly bits: readonly [more: number, fewer: number];
    readonly keys: Measured;
    readonly values: Measured;
    readonly layersForKeys: number;
  }[];
  readonly layers: number;
}

/** Rank correlation of the layers' sensitivities from two texts, by plane and width. */
export interface StabilityPart {
  readonly kind: 'stability';
  readonly rows: readonly { readonly plane: string; readonly bits: number; readonly spearman: number }[];
  /** All planes of all layers in one ranking, at each width. */
  readonly together: readonly { readonly bits: number; readonly spearman: number }[];
}

export type TunePart = TunedPart | RandomPart | PairsPart | StabilityPart;

/** The parts of the benchmark on one model; texts are read and sensitivities measured once for all of them. */
export class TuneParts implements Disposable {
  readonly #model: LoadedModel;
  readonly #books: readonly string[];
  readonly #size: TuneSize;
  readonly #tasks: readonly Task[];
  readonly #open: Partial<Record<'search' | 'heldOut', Evaluator>> = {};

  constructor(model: LoadedModel, books: readonly string[], tasks: readonly Task[], size: TuneSize) {
    this.#model = model;
    this.#books = books;
    this.#tasks = tasks;
    this.#size = size;
  }

  async tuned(goal: Goal): Promise<TunedPart> {
    const plan = this.#plan(goal);
    const found = await search(await this.#evaluator('search'), plan, this.#layers);
    if (!found.best) throw goalNotMet(plan, (await this.#evaluator('search')).all);
    const heldOut = await this.#evaluator('heldOut');
    const verdict = await verify(this.#model, heldOut, found.best.recipe, plan);
    return {
      kind: 'tuned',
      goal,
      full: (await heldOut.measure('full')).held,
      recipe: named(found.best.recipe, this.#model.shape.fingerprint),
      searched: found.best,
      front: found.front,
      groups: found.bases.map(({ base, groups }) => ({ base, groups })),
      verdict,
    };
  }

  async random(memory: number, count: number): Promise<RandomPart> {
    const evaluator = await this.#evaluator('search');
    await search(evaluator, this.#plan({ memory }), this.#layers);
    const best = bestOf(
      { memory },
      evaluator.all.filter(({ recipe }) => /^kvtuner\([^+]*\)$/.test(recipe)),
    );
    const [step] = best ? parseRecipe(best.recipe) : [];
    if (!step) throw new Error(`no table of widths was found within ${memory} bytes`);
    const { pairs: text, base } = step as unknown as { pairs: string; base: Base };
    const bits = bitsOf(parsePairs(text)!, base);
    const heldOut = await this.#evaluator('heldOut');
    const searched = await heldOut.measure(recipeOf(text, base));
    const random: Measured[] = [];
    for (const pairs of randomTables(this.#layers, bits, base, count, this.#size.seed))
      random.push(await heldOut.measure(recipeOf(formatPairs(pairs), base)));
    return { kind: 'random', memory, bits: bits / (2 * this.#layers), searched, random };
  }

  async pairs(): Promise<PairsPart> {
    const rows: PairsPart['rows'][number][] = [];
    const heldOut = await this.#evaluator('heldOut');
    for (const base of BASES) {
      const { k, v } = await this.#sensitivity('heldOut', base);
      for (const [more, fewer] of [
        [8, 4],
        [4, 2],
      ] as const) {
        const loss = (layer: number, kBits: number, vBits: number) =>
          k[layer]![WIDTHS.indexOf(kBits as 8)]! + v[layer]![WIDTHS.indexOf(vBits as 8)]!;
        rows.push({
          base,
          bits: [more, fewer],
          keys: await heldOut.measure(recipeOf(`k${more}v${fewer}`, base)),
          values: await heldOut.measure(recipeOf(`k${fewer}v${more}`, base)),
          layersForKeys: k.filter((_, layer) => loss(layer, more, fewer) < loss(layer, fewer, more)).length,
        });
      }
    }
    return { kind: 'pairs', rows, layers: this.#layers };
  }

  async stability(): Promise<StabilityPart> {
    const [a, b] = [await this.#sensitivity('search', 'kivi'), await this.#sensitivity('heldOut', 'kivi')];
    const at = (lines: Sensitivity['k'], i: number) => lines.map(line => line[i]!);
    return {
      kind: 'stability',
      rows: (['k', 'v'] as const).flatMap(plane =>
        WIDTHS.map((bits, i) => ({ plane, bits, spearman: spearman(at(a[plane], i), at(b[plane], i)) })),
      ),
      together: WIDTHS.map((bits, i) => ({
        bits,
        spearman: spearman([...at(a.k, i), ...at(a.v, i)], [...at(b.k, i), ...at(b.v, i)]),
      })),
    };
  }

  /** Measured recipes are remembered, so asking again costs nothing. */
  async #sensitivity(text: 'search' | 'heldOut', base: Base): Promise<Sensitivity> {
    return sensitivity(await this.#evaluator(text), this.#layers, base);
  }

  async #evaluator(text: 'search' | 'heldOut'): Promise<Evaluator> {
    const { length, steps, windows, heldOut } = this.#size;
    const tokens = this.#model.tokenizer.encode(this.#texts[text], { addBos: true });
    const count = text === 'search' ? windows : heldOut;
    this.#open[text] ??= await Evaluator.open(this.#model, windowsIn(tokens, length + steps, count), steps);
    return this.#open[text];
  }

  #plan(goal: Goal): TunePlan {
    const plan: TunePlan = {
      ...this.#size,
      goal,
      bases: USUAL_BASES,
      books: this.#books,
      texts: this.#texts,
      tasks: this.#tasks,
    };
    checkTune(plan, this.#model);
    return plan;
  }

  get #texts(): TunePlan['texts'] {
    return { search: this.#books.slice(0, -1).join('\n\n'), heldOut: this.#books.at(-1)! };
  }

  get #layers(): number {
    return this.#model.shape.layers;
  }

  [Symbol.dispose](): void {
    for (const evaluator of Object.values(this.#open)) evaluator[Symbol.dispose]();
  }
}

function bitsOf(pairs: readonly Pair[], base: Base): number {
  return pairs.reduce((sum, { k, v }) => sum + bitsHeld(k, base) + bitsHeld(v, base), 0);
}

/** Tables of widths drawn plane by plane, then moved one plane at a time, at random, until they have just as many bits. */
export function randomTables(layers: number, bits: number, base: Base, count: number, seed: number): Pair[][] {
  const draw = new Draw(`tune/tables/${seed}`);
  const tables = new Map<string, Pair[]>();
  for (let tries = 0; tables.size < count && tries < 1e6; tries++) {
    const planes = Array.from({ length: 2 * layers }, () => draw.choice(WIDTHS));
    const pairs = () => Array.from({ length: layers }, (_, l) => ({ k: planes[2 * l]!, v: planes[2 * l + 1]! }));
    for (let moves = 0; moves < 1000 && bitsOf(pairs(), base) !== bits; moves++) {
      const plane = draw.between(0, planes.length - 1);
      const width = draw.choice(WIDTHS);
      const over = bitsOf(pairs(), base) > bits;
      if (over ? width < planes[plane]! : width > planes[plane]!) planes[plane] = width;
    }
    if (bitsOf(pairs(), base) === bits) tables.set(formatPairs(pairs()), pairs());
  }
  if (tables.size < count) throw new Error(`${tables.size} tables of ${bits} bits were drawn, ${count} are needed`);
  return [...tables.values()];
}
