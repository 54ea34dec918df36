import type { CacheSequence } from '../../cache/sequence.ts';
import type { EvictRule, Expression, StepRule } from '../../methods/types.ts';
import type { StepAttention } from '../sense/sensor.ts';
import { evaluate, needsAttention, type StepView } from './expression.ts';

/** Lengths of views whose arrays are kept: layers have few different ones. */
const LENGTHS = 64;

export function ruleNeedsAttention({ columns, evict }: StepRule): boolean {
  return (
    (columns ?? []).some(({ value }) => needsAttention(value)) || (evict?.value ? needsAttention(evict.value) : false)
  );
}

/** Is the step at which `seen` tokens have been seen one of the rule's? */
export function holdsAt({ within }: StepRule, seen: number): boolean {
  return !within || within.steps.includes(seen % within.period);
}

/** Carries out the rules of one sequence at a layer whose row has just been appended and attended. */
export class StepEvaluation implements StepView {
  readonly #sequence: CacheSequence;
  #layer = 0;
  #seen = 0;
  /** i32 [layers * kvHeads]: where TreeKV's sweep stands; kept with the sequence. */
  #cursors: Int32Array = new Int32Array();
  /** Mean of a value over heads. */
  #mean = new Float32Array();
  /** Arrays of the length that a column was last set with. */
  readonly #columns = new Map<number, { readonly of: Float32Array; readonly part: Float32Array }>();
  attention: StepAttention | null = null;
  readonly group: number;
  head = 0;
  entries = 0;

  /** @param group query heads that share a KV head */
  constructor(sequence: CacheSequence, group: number) {
    this.#sequence = sequence;
    this.group = group;
  }

  /**
   * @param attention of the layer's row, where one of its rules needs it
   * @param seen tokens seen so far, the one of this step included
   */
  begin(layer: number, attention: StepAttention | null, cursors: Int32Array, seen: number): void {
    this.#layer = layer;
    this.attention = attention;
    this.#cursors = cursors;
    this.#seen = seen;
  }

  run({ columns, evict, renumber }: StepRule): void {
    const { kvHeads } = this.#sequence.cache.shape;
    for (const { name, value } of columns ?? [])
      for (let head = 0; head < kvHeads; head++)
        this.#sequence.setColumn(this.#layer, head, name, this.#exactly(this.#evaluate(value, head)));
    const evicted = evict && (evict.per === 'layer' ? this.#evictTogether(evict) : this.#evictEach(evict));
    if (renumber && evicted) this.#sequence.renumber(this.#layer);
  }

  column(name: string, into: Float32Array): void {
    this.#sequence.column(this.#layer, this.head, name, into);
  }

  /** Valid until the next call. */
  #evaluate(expression: Expression, head: number): Float32Array {
    this.head = head;
    this.entries = this.#sequence.entries(this.#layer, head);
    return evaluate(expression, this);
  }

  /** The values of the view's entries alone. */
  #exactly(values: Float32Array): Float32Array {
    const known = this.#columns.get(this.entries);
    if (known?.of === values) return known.part;
    if (this.#columns.size >= LENGTHS) this.#columns.clear();
    const part = values.subarray(0, this.entries);
    this.#columns.set(this.entries, { of: values, part });
    return part;
  }

  #evictEach(rule: EvictRule): boolean {
    const { kvHeads } = this.#sequence.cache.shape;
    let evicted = false;
    for (let head = 0; head < kvHeads; head++) {
      if (rule.heads && !rule.heads.includes(head)) continue;
      const count = this.#excess(rule, head);
      if (count === 0) continue;
      evicted = true;
      if (rule.choose === 'oldest') {
        if (rule.compensate) this.#compensate(rule, head, count);
        else this.#sequence.dropOldest(this.#layer, head, rule.first, count);
        continue;
      }
      this.#dropBy(rule, head, head + 1, this.#evaluate(rule.value!, head), count);
    }
    return evicted;
  }

  /** One choice for all heads, which hold the same entries. */
  #evictTogether(rule: EvictRule): boolean {
    const { kvHeads } = this.#sequence.cache.shape;
    const count = this.#excess(rule, 0);
    if (count === 0) return false;
    if (rule.choose === 'oldest') {
      for (let head = 0; head < kvHeads; head++) this.#sequence.dropOldest(this.#layer, head, rule.first, count);
      return true;
    }
    const entries = this.#sequence.entries(this.#layer, 0);
    if (this.#mean.length < entries) this.#mean = new Float32Array(2 * entries);
    const mean = this.#mean.fill(0, 0, entries);
    for (let head = 0; head < kvHeads; head++) {
      const values = this.#evaluate(rule.value!, head);
      for (let i = 0; i < entries; i++) mean[i]! += values[i]! / kvHeads;
    }
    this.#dropBy(rule, 0, kvHeads, mean, count);
    return true;
  }

  /** How many entries a view has to lose. */
  #excess({ over, first, last }: EvictRule, head: number): number {
    const entries = this.#sequence.entries(this.#layer, head);
    const limit = typeof over === 'number' ? over : Math.floor(over.share * this.#seen + 1e-9);
    return Math.max(0, Math.min(entries - limit, entries - first - last));
  }

  /** One choice for heads [first, end). */
  #dropBy(rule: EvictRule, first: number, end: number, values: Float32Array, count: number): void {
    let entries = this.#sequence.entries(this.#layer, first);
    for (let n = 0; n < count; n++) {
      const entry =
        rule.choose === 'neighbours' ? this.#neighbour(rule, first, values, entries) : lowest(rule, values, entries);
      for (let head = first; head < end; head++) this.#sequence.drop(this.#layer, head, entry);
      values.copyWithin(entry, entry + 1, entries--);
    }
  }

  /** The lower of two neighbours (ties: the earlier); the sweep goes on cyclically over the unprotected entries. */
  #neighbour({ first, last }: EvictRule, head: number, values: Float32Array, entries: number): number {
    const at = this.#layer * this.#sequence.cache.shape.kvHeads + head;
    const region = entries - first - last;
    const cursor = region < 2 ? 0 : this.#cursors[at]! % (region - 1);
    const entry = first + cursor;
    this.#cursors[at] = region < 3 ? 0 : (cursor + 1) % (region - 1);
    return region < 2 || values[entry]! <= values[entry + 1]! ? entry : entry + 1;
  }

  /** Entries [first, first + count) go into the running mean at entry first - 1, whose bias is ln of how many it stands for. */
  #compensate({ first }: EvictRule, head: number, count: number): void {
    const target = first - 1;
    const held = Math.round(Math.exp(this.#sequence.column(this.#layer, head, 'bias')[target]!));
    const total = held + count;
    const members = Uint32Array.from({ length: count + 1 }, (_, i) => target + i);
    const weights = new Float32Array(count + 1).fill(1 / total);
    weights[0] = held / total;
    this.#sequence
      .prepareMerge([
        {
          slot: this.#layer,
          head,
          targets: Uint32Array.of(target),
          starts: Uint32Array.of(0, count + 1),
          members,
          weightsK: weights,
          weightsV: weights,
          bias: Float32Array.of(Math.log(total)),
        },
      ])
      .apply();
  }
}

function lowest({ first, last }: EvictRule, values: Float32Array, entries: number): number {
  let entry = first;
  for (let i = first + 1; i < entries - last; i++) if (values[i]! < values[entry]!) entry = i;
  return entry;
}
