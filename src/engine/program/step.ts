import type { CacheSequence } from '../../cache/sequence.ts';
import type { EvictRule, StepRule } from '../../methods/types.ts';
import type { StepAttention } from '../sense/sensor.ts';
import { evaluate, needsAttention, type StepView } from './expression.ts';

export function ruleNeedsAttention({ columns, evict }: StepRule): boolean {
  return (
    (columns ?? []).some(({ value }) => needsAttention(value)) || (evict?.value ? needsAttention(evict.value) : false)
  );
}

/** Is the step at which `seen` tokens have been seen one of the rule's? */
export function holdsAt({ within }: StepRule, seen: number): boolean {
  return !within || within.steps.includes(seen % within.period);
}

/** Carries out a rule at a layer whose row has just been appended and attended. */
export class StepEvaluation {
  readonly #sequence: CacheSequence;
  readonly #layer: number;
  readonly #attention: StepAttention | null;
  /** i32 [layers * kvHeads]: where TreeKV's sweep stands; kept with the sequence. */
  readonly #cursors: Int32Array;
  readonly #seen: number;

  /** @param seen tokens seen so far, the one of this step included */
  constructor(
    sequence: CacheSequence,
    layer: number,
    attention: StepAttention | null,
    cursors: Int32Array,
    seen: number,
  ) {
    this.#sequence = sequence;
    this.#layer = layer;
    this.#attention = attention;
    this.#cursors = cursors;
    this.#seen = seen;
  }

  run({ columns, evict, renumber }: StepRule): void {
    const { kvHeads } = this.#sequence.cache.shape;
    for (const { name, value } of columns ?? [])
      for (let head = 0; head < kvHeads; head++)
        this.#sequence.setColumn(this.#layer, head, name, evaluate(value, this.#view(head)));
    const evicted = evict && (evict.per === 'layer' ? this.#evictTogether(evict) : this.#evictEach(evict));
    if (renumber && evicted) this.#sequence.renumber(this.#layer);
  }

  #view(head: number): StepView {
    const { heads, kvHeads } = {
      heads: this.#attention?.offsets.length ?? 0,
      kvHeads: this.#sequence.cache.shape.kvHeads,
    };
    const group = heads / kvHeads;
    const attention = this.#attention && {
      values: this.#attention.values,
      offsets: this.#attention.offsets.subarray(head * group, (head + 1) * group),
    };
    return {
      entries: this.#sequence.entries(this.#layer, head),
      attention,
      group,
      column: name => this.#sequence.column(this.#layer, head, name),
    };
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
      const values = rule.value ? evaluate(rule.value, this.#view(head)) : new Float32Array(0);
      this.#dropBy(rule, [head], values, count);
    }
    return evicted;
  }

  /** One choice for all heads, which hold the same entries. */
  #evictTogether(rule: EvictRule): boolean {
    const { kvHeads } = this.#sequence.cache.shape;
    const heads = Array.from({ length: kvHeads }, (_, head) => head);
    const count = this.#excess(rule, 0);
    if (count === 0) return false;
    if (rule.choose === 'oldest') {
      for (const head of heads) this.#sequence.dropOldest(this.#layer, head, rule.first, count);
      return true;
    }
    const mean = new Float32Array(this.#sequence.entries(this.#layer, 0));
    for (const head of heads) {
      const values = evaluate(rule.value!, this.#view(head));
      for (let i = 0; i < mean.length; i++) mean[i]! += values[i]! / kvHeads;
    }
    this.#dropBy(rule, heads, mean, count);
    return true;
  }

  /** How many entries a view has to lose. */
  #excess({ over, first, last }: EvictRule, head: number): number {
    const entries = this.#sequence.entries(this.#layer, head);
    const limit = typeof over === 'number' ? over : Math.floor(over.share * this.#seen + 1e-9);
    return Math.max(0, Math.min(entries - limit, entries - first - last));
  }

  #dropBy(rule: EvictRule, heads: readonly number[], values: Float32Array, count: number): void {
    let entries = values.length;
    for (let n = 0; n < count; n++) {
      const entry =
        rule.choose === 'neighbours'
          ? this.#neighbour(rule, heads[0]!, values, entries)
          : lowest(rule, values, entries);
      for (const head of heads) this.#sequence.drop(this.#layer, head, entry);
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
