import type { CacheSequence } from '../../cache/sequence.ts';
import type { RetrieveRule } from '../../methods/types.ts';
import { chooseCount, chooseLevels, chooseTokens } from './choose.ts';
import { evenness, layerPart } from './entropy.ts';
import { chooseHalving } from './halving.ts';
import type { Turning } from './queries.ts';
import { groupRuns, type RunIndex, updateRuns } from './runs.ts';
import { boundOf, boundScore, cosineScores, type UnitKeys, unitScores } from './score.ts';
import { countState, type LayerState, type RetrievalState, stateOf } from './state.ts';

const NO_UNITS = { first: 0, last: 0 } as const;
const none = new Uint32Array();

/** Scores the units of a layer's views for a query, and chooses among them. See RetrieveRule. */
export class Chooser {
  readonly #rules: readonly (RetrieveRule | null)[];
  readonly #sequence: CacheSequence;
  readonly #turning: Turning;

  /** @param rules by layer */
  constructor(rules: readonly (RetrieveRule | null)[], sequence: CacheSequence, turning: Turning) {
    this.#rules = rules;
    this.#sequence = sequence;
    this.#turning = turning;
  }

  /** Is there a unit to choose in any view of a layer? */
  hasUnits(layer: number, { units }: RetrieveRule): boolean {
    const sequence = this.#sequence;
    const { kvHeads } = this.#turning.config;
    for (let head = 0; head < kvHeads; head++) {
      const count = units === 'parked' ? sequence.units(layer, head).count : sequence.entries(layer, head) / units.size;
      if (count >= 1) return true;
    }
    return false;
  }

  /**
   * The units (pieces) that are read of each KV head.
   * @param rows how many rows at the end of the views are asking: they are in no run
   */
  choose(layer: number, rule: RetrieveRule, query: Float32Array, state: RetrievalState, rows: number): Uint32Array[] {
    const { kvHeads } = this.#turning.config;
    const heads = Array.from({ length: kvHeads }, (_, head) => head);
    const at = state.layers[layer]!;
    const units = heads.map(head => this.#keysOf(layer, head, rule, at, rows));
    if (rule.choose.by === 'halving') return heads.map(head => this.#halve(layer, head, rule, query));
    const scores = this.#scores(rule, query, units);
    if (at.question)
      for (const [n, values] of this.#scores(rule, at.question, units).entries())
        for (let unit = 0; unit < values.length; unit++) scores[n]![unit]! += rule.question! * values[unit]!;
    if (rule.per === 'layer') return new Array(kvHeads).fill(this.#pick(layer, 0, rule, query, scores[0]!, state));
    return heads.map(head => this.#pick(layer, head, rule, query, scores[head]!, state));
  }

  #keysOf(layer: number, head: number, { units }: RetrieveRule, at: LayerState, rows: number): UnitKeys {
    if (units === 'parked') return this.#sequence.units(layer, head);
    const runs = at.runs[head]!;
    const entries = this.#sequence.entries(layer, head) - rows;
    if (updateRuns(runs, this.#sequence, layer, head, units.size, entries))
      countState(this.#sequence, stateOf(this.#sequence));
    return { count: runs.count, index: runs.bounds };
  }

  /** One array a KV head; one in all where the rule is for a layer. */
  #scores({ score, per }: RetrieveRule, query: Float32Array, units: readonly UnitKeys[]): Float64Array[] {
    const { headDim } = this.#turning.config;
    if (score.by === 'cosine') return [cosineScores(query, units, headDim)];
    const scores = units.map((of, head) => unitScores(score, this.#group(query, head), of, headDim));
    if (per === 'head') return scores;
    return [scores[0]!.map((_, unit) => scores.reduce((sum, of) => sum + of[unit]!, 0) / scores.length)];
  }

  /** Queries of the heads that share a KV head, of all rows that choose together. */
  #group(query: Float32Array, head: number): Float32Array {
    const width = query.length / this.#turning.config.kvHeads;
    return query.subarray(head * width, (head + 1) * width);
  }

  #pick(
    layer: number,
    head: number,
    rule: RetrieveRule,
    query: Float32Array,
    scores: Float64Array,
    state: RetrievalState,
  ): Uint32Array {
    const { choose, units, always = NO_UNITS } = rule;
    const count = scores.length;
    if (choose.by === 'tokens') {
      const lengths =
        units === 'parked' ? this.#sequence.units(layer, head).lengths : new Uint32Array(count).fill(units.size);
      return chooseTokens(scores, lengths, choose.tokens, always);
    }
    if (choose.by === 'entropy') {
      const at = state.layers[layer]!;
      if (count > 1) at.history.push(evenness(scores));
      if (at.history.length > choose.history) at.history.shift();
      const after = state.layers.slice(layer).filter((_, n) => this.#rules[layer + n]);
      const histories = after.map(({ history }) => history);
      const part = layerPart(choose, histories, state.left, count);
      state.left -= part;
      return chooseCount(scores, part, always);
    }
    if (choose.by !== 'levels') return none;
    const runs = state.layers[layer]!.runs;
    const scoresOf = (size: number) => {
      if (size === 1) return scores;
      return this.#scores(
        rule,
        query,
        rule.per === 'layer'
          ? runs.map(of => this.#groups(layer, head, rule, of, size))
          : runs.map((of, n) => (n === head ? this.#groups(layer, n, rule, of, size) : { count: 0, index: of.bounds })),
      )[rule.per === 'layer' ? 0 : head]!;
    };
    return chooseLevels(count, choose.levels, scoresOf, always);
  }

  /** Bounds of groups of neighbouring units. */
  #groups(layer: number, head: number, { units }: RetrieveRule, runs: RunIndex, size: number): UnitKeys {
    const { headDim } = this.#turning.config;
    if (units !== 'parked') return groupRuns(runs, size, headDim);
    const { count, index } = this.#sequence.units(layer, head);
    return groupRuns({ edits: 0, count, bounds: index }, size, headDim);
  }

  #halve(layer: number, head: number, { choose, always = NO_UNITS }: RetrieveRule, query: Float32Array): Uint32Array {
    if (choose.by !== 'halving') return none;
    const { headDim } = this.#turning.config;
    const sequence = this.#sequence;
    const { count, pieces, lengths, index } = sequence.units(layer, head);
    const queries = this.#group(query, head);
    const both = (bounds: Float32Array, at: number): readonly [number, number] => {
      let lower = Number.NEGATIVE_INFINITY;
      for (let from = 0; from < queries.length; from += headDim)
        lower = Math.max(lower, boundOf(queries, from, bounds, at, headDim, 'lower'));
      return [boundScore(queries, bounds, at, headDim), lower];
    };
    const source = {
      count,
      halvings: Math.log2(pieces),
      bounds: (unit: number) => both(index, unit * 2 * headDim),
      pair: (unit: number, level: number, piece: number) => {
        const bounds = sequence.pieceBounds(layer, head, unit, level, piece);
        return [both(bounds, 0), both(bounds, 2 * headDim)] as const;
      },
      rows: (unit: number, level: number, piece: number) => sequence.pieceRows(layer, head, unit, level, piece),
    };
    const entries = lengths.reduce((sum, length) => sum + length, 0);
    const tokens = Math.min(Math.ceil(choose.share * entries - 1e-9), choose.most);
    return chooseHalving(source, tokens, unit => unit < always.first || unit >= count - always.last);
  }
}
