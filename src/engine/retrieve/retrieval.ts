import type { CacheSequence } from '../../cache/sequence.ts';
import type { RetrieveRule } from '../../methods/types.ts';
import { Chooser } from './chooser.ts';
import { activationQuery, byHead, meanQuery, queryStatistics } from './probe-query.ts';
import { meanCosine, type Turning, turnQueries } from './queries.ts';
import { ReadParts } from './read-parts.ts';
import { beginState, countState, type LayerState, type RetrievalState, stateOf } from './state.ts';

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

/** Decides what a step (or the rows of a prompt) reads of each view of a layer, and brings it there. See RetrieveRule. */
export class Retrieval {
  readonly counts: RetrieveCounts = { steps: 0, selections: 0, rows: 0, read: 0, readable: 0 };
  readonly #rules: readonly (RetrieveRule | null)[];
  readonly #sequence: CacheSequence;
  readonly #turning: Turning;
  readonly #chooser: Chooser;
  readonly #parts: ReadParts;
  /** By layer: parts of its state whose bytes have been counted. */
  readonly #counted: number[] = [];

  /** @param rules by layer */
  constructor(rules: readonly (RetrieveRule | null)[], sequence: CacheSequence, turning: Turning) {
    this.#rules = rules;
    this.#sequence = sequence;
    this.#turning = turning;
    const { kvHeads } = turning.config;
    this.#chooser = new Chooser(rules, sequence, turning);
    this.#parts = new ReadParts(sequence, kvHeads);
    beginState(sequence, rules.length, kvHeads);
  }

  /** Before the attention of one row, the last entry of the layer's views. */
  step(layer: number, query: RawQueries): void {
    this.#parts.clear();
    const rule = this.#rules[layer];
    if (!rule) return;
    this.counts.steps++;
    this.#run(layer, rule, query, 1, 'step');
    this.#parts.count(layer, this.counts);
  }

  /** Have rows of a prompt to be asked about at a layer before their attention? Not while there is nothing to choose from. */
  asksPrompt(layer: number): boolean {
    const rule = this.#rules[layer];
    return rule?.prompt !== undefined && this.#chooser.hasUnits(layer, rule);
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
    this.#parts.clear();
    const rule = this.#rules[layer];
    if (rule?.prompt !== undefined) this.#run(layer, rule, queries, rows, 'prompt');
  }

  /** The probe of the method has run through a layer, after a chunk of a prompt. */
  question(layer: number, { address, rows }: Pick<RawQueries, 'address' | 'rows'>): void {
    const rule = this.#rules[layer];
    if (!rule?.question) return;
    const state = stateOf(this.#sequence);
    const at = state.layers[layer]!;
    at.question = this.#query(layer, { ...rule, prompt: 'mean' }, { address, rows, position: () => 0 }, at);
    countState(this.#sequence, state);
  }

  /** A prompt has been read: the first step after it chooses, however alike it is to the last one before. */
  endPrompt(): void {
    const state = stateOf(this.#sequence);
    for (const [layer, at] of state.layers.entries()) {
      at.steps = this.#rules[layer]?.renew?.most ?? 0;
      at.question = null;
    }
    countState(this.#sequence, state);
  }

  /** What a layer's rows read is as it was before `step` or `prompt`: everything resident. */
  readAll(): void {
    this.#parts.clear();
  }

  /** Is only a part of the layer's views to be read now? */
  readsPart(layer: number): boolean {
    return this.#parts.has(layer);
  }

  /** Writes the REF records of what is read of a view; see CacheSequence.writePieces. */
  writeRefs(layer: number, head: number, address: number): number {
    return this.#parts.writeRefs(layer, head, address);
  }

  #run(layer: number, rule: RetrieveRule, queries: RawQueries, rows: number, what: 'step' | 'prompt'): void {
    const state = stateOf(this.#sequence);
    const at = state.layers[layer]!;
    const first = this.#rules.findIndex(Boolean);
    if (layer === first && rule.choose.by === 'entropy')
      state.left = rule.choose.mean * this.#rules.filter(Boolean).length;
    const query = this.#query(layer, rule, queries, at);
    const stays = what === 'step' && this.#stays(at, rule, query);
    if (!stays) this.#select(layer, rule, query, state, rows);
    this.#parts.show(layer, rule, at.chosen, rows);
    // Bytes of states are counted when they are set.
    const parts = Number(at.last !== null) + Number(at.statistics !== null) + at.history.length;
    if (parts !== this.#counted[layer]) countState(this.#sequence, state);
    this.#counted[layer] = parts;
  }

  #select(layer: number, rule: RetrieveRule, query: Float32Array, state: RetrievalState, rows: number): void {
    const at = state.layers[layer]!;
    this.counts.selections++;
    at.chosen =
      rule.adopt === undefined
        ? this.#chooser.choose(layer, rule, query, state, rows)
        : state.layers[rule.adopt]!.chosen;
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
}
