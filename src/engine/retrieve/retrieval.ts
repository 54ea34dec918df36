import type { CacheSequence } from '../../cache/sequence.ts';
import type { RetrieveRule } from '../../methods/types.ts';
import { chooseCount, chooseLevels, chooseTokens } from './choose.ts';
import { evenness, layerPart } from './entropy.ts';
import { chooseHalving } from './halving.ts';
import { activationQuery, byHead, meanQuery, type QueryStatistics, queryStatistics } from './probe-query.ts';
import { meanCosine, type Turning, turnQueries } from './queries.ts';
import { groupRuns, type RunIndex, runIndex, updateRuns } from './runs.ts';
import { boundOf, boundScore, cosineScores, type UnitKeys, unitScores } from './score.ts';

/** What retrieval remembers of a layer. A plain object: it is kept with the sequence and forks with it. */
interface LayerState {
  /** f32 [heads * headDim]: the last step's query, after RoPE; null before the first step. */
  last: Float32Array | null;
  /** Steps since the last choice. */
  steps: number;
  /** [kvHeads]: the units (pieces) that are read. */
  chosen: Uint32Array[];
  runs: RunIndex[];
  /** Evenness of the scores at the last choices. */
  history: number[];
  statistics: QueryStatistics | null;
  /** f32 [heads * headDim]: the mean query of the probe after the last chunk of a prompt (RetrieveRule.question). */
  question: Float32Array | null;
}

interface State {
  readonly layers: LayerState[];
  /** Units that the layers from this one on may still choose at this step (UnitChoice `entropy`). */
  left: number;
}

/** What retrieval did, over all layers. */
export interface RetrieveCounts {
  steps: number;
  selections: number;
  /** Entries copied back into the arena. */
  rows: number;
  /** Entries that steps of decoding have read, and that they could have read, over all views. */
  read: number;
  readable: number;
}

/** Queries of some rows of one layer, before RoPE: f32 [rows][heads * headDim] at an address. */
export interface RawQueries {
  readonly address: number;
  readonly rows: number;
  position(row: number): number;
}

const STATE = 'retrieval';
const NO_UNITS = { first: 0, last: 0 } as const;
const none = new Uint32Array();

/** Decides what a step (or the rows of a prompt) reads of each view of a layer, and brings it there. See RetrieveRule. */
export class Retrieval {
  readonly counts: RetrieveCounts = { steps: 0, selections: 0, rows: 0, read: 0, readable: 0 };
  readonly #rules: readonly (RetrieveRule | null)[];
  readonly #sequence: CacheSequence;
  readonly #turning: Turning;
  /** By KV head of the layer at work: what is read of it where that is not all. `pieces` of fetched entries, else ranges. */
  readonly #parts: { pieces: boolean; values: Uint32Array; count: number }[];
  /** The layer that #parts is about; -1: none. */
  #partial = -1;
  /** By layer: parts of its state whose bytes have been counted. */
  readonly #counted: number[] = [];

  /** @param rules by layer */
  constructor(rules: readonly (RetrieveRule | null)[], sequence: CacheSequence, turning: Turning) {
    this.#rules = rules;
    this.#sequence = sequence;
    this.#turning = turning;
    const { kvHeads } = turning.config;
    this.#parts = Array.from({ length: kvHeads }, () => ({ pieces: false, values: none, count: 0 }));
    if (sequence.state<State>(STATE)) return;
    const layers = rules.map(
      (): LayerState => ({
        last: null,
        steps: 0,
        chosen: Array.from({ length: kvHeads }, () => none),
        runs: Array.from({ length: kvHeads }, runIndex),
        history: [],
        statistics: null,
        question: null,
      }),
    );
    sequence.setState(STATE, { layers, left: 0 } satisfies State);
  }

  /** Before the attention of one row, the last entry of the layer's views. */
  step(layer: number, query: RawQueries): void {
    this.#partial = -1;
    const rule = this.#rules[layer];
    if (!rule) return;
    this.counts.steps++;
    this.#run(layer, rule, query, 1, 'step');
    this.#count(layer);
  }

  /** Have rows of a prompt to be asked about at a layer before their attention? Not while there is nothing to choose from. */
  asksPrompt(layer: number): boolean {
    const rule = this.#rules[layer];
    if (rule?.prompt === undefined) return false;
    const { kvHeads } = this.#turning.config;
    for (let head = 0; head < kvHeads; head++)
      if (this.#unitCount(layer, head, rule, this.#sequence.entries(layer, head)) > 0) return true;
    return false;
  }

  /** How many rows of a prompt choose together at a layer. */
  promptWindow(layer: number): number {
    const prompt = this.#rules[layer]?.prompt;
    return typeof prompt === 'object' && 'window' in prompt ? prompt.window : Number.POSITIVE_INFINITY;
  }

  /**
   * Before the attention of rows of a prompt (chunk) that choose together.
   * @param rows of the whole chunk, the last entries of the layer's views
   */
  prompt(layer: number, queries: RawQueries, rows: number): void {
    this.#partial = -1;
    const rule = this.#rules[layer];
    if (rule?.prompt !== undefined) this.#run(layer, rule, queries, rows, 'prompt');
  }

  /** The probe of the method has run through a layer, after a chunk of a prompt. */
  question(layer: number, { address, rows }: Pick<RawQueries, 'address' | 'rows'>): void {
    const rule = this.#rules[layer];
    if (!rule?.question) return;
    const state = this.#sequence.state<State>(STATE)!;
    const at = state.layers[layer]!;
    at.question = this.#query(layer, { ...rule, prompt: 'mean' }, { address, rows, position: () => 0 }, at);
    this.#sequence.setState(STATE, state);
  }

  /** A prompt has been read: the first step after it chooses, however alike it is to the last one before. */
  endPrompt(): void {
    const state = this.#sequence.state<State>(STATE)!;
    for (const [layer, at] of state.layers.entries()) {
      at.steps = this.#rules[layer]?.renew?.most ?? 0;
      at.question = null;
    }
    this.#sequence.setState(STATE, state);
  }

  /** What a layer's rows read is as it was before `step` or `prompt`: everything resident. */
  readAll(): void {
    this.#partial = -1;
  }

  /** Is only a part of the layer's views to be read now? */
  readsPart(layer: number): boolean {
    return this.#partial === layer;
  }

  /** Writes the REF records of what is read of a view; see CacheSequence.writePieces. */
  writeRefs(layer: number, head: number, address: number): number {
    const { pieces, values, count } = this.#parts[head]!;
    return pieces
      ? this.#sequence.writePieces(layer, head, values, count, address)
      : this.#sequence.writeRanges(layer, head, values, count, address);
  }

  #run(layer: number, rule: RetrieveRule, queries: RawQueries, rows: number, what: 'step' | 'prompt'): void {
    const state = this.#sequence.state<State>(STATE)!;
    const at = state.layers[layer]!;
    const first = this.#rules.findIndex(Boolean);
    if (layer === first && rule.choose.by === 'entropy')
      state.left = rule.choose.mean * this.#rules.filter(Boolean).length;
    const query = this.#query(layer, rule, queries, at);
    const stays = what === 'step' && this.#stays(at, rule, query);
    if (!stays) this.#select(layer, rule, query, state, rows);
    this.#show(layer, rule, at, rows);
    // Bytes of states are counted when they are set.
    const parts = Number(at.last !== null) + Number(at.statistics !== null) + at.history.length;
    if (parts !== this.#counted[layer]) this.#sequence.setState(STATE, state);
    this.#counted[layer] = parts;
  }

  #select(layer: number, rule: RetrieveRule, query: Float32Array, state: State, rows: number): void {
    const at = state.layers[layer]!;
    this.counts.selections++;
    at.chosen =
      rule.adopt === undefined ? this.#choose(layer, rule, query, state, rows) : state.layers[rule.adopt]!.chosen;
    if (rule.units === 'parked')
      for (const [head, pieces] of at.chosen.entries())
        if (this.#sequence.units(layer, head).count > 0)
          this.counts.rows += this.#sequence.fetch(layer, head, pieces, rule.resident ?? 0);
  }

  /** One query for the rows, after RoPE; with windows all of them, head by head: f32 [kvHeads][rows][group][headDim]. */
  #query(layer: number, rule: RetrieveRule, { address, rows, position }: RawQueries, at: LayerState): Float32Array {
    const { heads, headDim } = this.#turning.config;
    const { f32 } = this.#sequence.cache.memory;
    const distance = rule.score.by === 'cosine' ? rule.score.distance : null;
    const where = distance === null ? position : () => distance;
    const turned = turnQueries(f32, this.#turning, layer, address / 4, rows, where);
    const width = heads * headDim;
    const { prompt = 'mean' } = rule;
    if (prompt === 'mean') return rows === 1 ? turned : meanQuery(turned, width);
    if ('window' in prompt) return byHead(turned, width, this.#turning.config.kvHeads);
    at.statistics ??= queryStatistics(width);
    return activationQuery(turned, width, at.statistics, prompt);
  }

  #stays(at: LayerState, { renew }: RetrieveRule, query: Float32Array): boolean {
    if (!renew) return false;
    const { headDim } = this.#turning.config;
    const stay = at.last !== null && at.steps + 1 < renew.most && meanCosine(at.last, query, headDim) >= renew.cosine;
    at.last ??= new Float32Array(query.length);
    at.last.set(query);
    at.steps = stay ? at.steps + 1 : 0;
    return stay;
  }

  #unitCount(layer: number, head: number, { units }: RetrieveRule, entries: number): number {
    return units === 'parked' ? this.#sequence.units(layer, head).count : Math.floor(entries / units.size);
  }

  /** @param rows how many rows at the end of the views are asking: they are in no run */
  #choose(layer: number, rule: RetrieveRule, query: Float32Array, state: State, rows: number): Uint32Array[] {
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
      this.#sequence.setState(STATE, this.#sequence.state<State>(STATE)!);
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
    state: State,
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

  /** What is chosen becomes what is read. */
  #show(layer: number, rule: RetrieveRule, { chosen }: LayerState, rows: number): void {
    if (rule.units === 'parked') {
      // Without others beside them, the chosen units are all that is resident.
      if (!rule.resident) return;
      for (const [head, part] of this.#parts.entries()) {
        part.pieces = true;
        part.values = chosen[head]!;
        part.count = part.values.length;
      }
    } else {
      const { size } = rule.units;
      for (const [head, part] of this.#parts.entries()) {
        part.pieces = false;
        const entries = this.#sequence.entries(layer, head);
        const runs = Math.floor((entries - rows) / size);
        part.values = rangesOf(chosen[head]!, size, runs, entries);
        part.count = part.values.length / 2;
      }
    }
    this.#partial = layer;
  }

  #count(layer: number): void {
    const { kvHeads } = this.#turning.config;
    const { counts } = this;
    for (let head = 0; head < kvHeads; head++) {
      const entries = this.#sequence.entries(layer, head);
      const { pieces, values, count } = this.#parts[head]!;
      let read = entries;
      if (this.#partial === layer && !pieces) {
        read = 0;
        for (let n = 0; n < count; n++) read += values[2 * n + 1]! - values[2 * n]!;
      }
      counts.read += read;
      counts.readable += entries;
    }
  }
}

/** Pairs (from, to) of the chosen ones of `runs` runs and of what comes after them. */
function rangesOf(chosen: Uint32Array, size: number, runs: number, entries: number): Uint32Array {
  const pairs: number[] = [];
  const add = (from: number, to: number) => {
    if (pairs.at(-1) === from) pairs[pairs.length - 1] = to;
    else pairs.push(from, to);
  };
  for (const run of chosen) if (run < runs) add(run * size, (run + 1) * size);
  if (runs * size < entries) add(runs * size, entries);
  return Uint32Array.from(pairs);
}
