import type { PlainCache, PlainRows } from './testing.ts';
import { pickEntries } from './testing-actions.ts';
import { type PlainScene, type PlainView, plainPool, plainProbabilities } from './testing-signals.ts';
import type { EvictRule, Expression, Policy, StepRule } from './types.ts';

/** Decoding on a PlainCache: step rules (types.ts) by the book, one entry dropped at a time. */
export class PlainDecoder {
  readonly #cache: PlainCache;
  readonly rules: readonly (StepRule | null)[];
  readonly #cursors = new Map<string, number>();

  /** After the prompt that set the rules. */
  constructor(cache: PlainCache, policy: Policy) {
    this.#cache = cache;
    this.rules = cache.views.map((_, layer) => policy.step?.(layer, cache.at(layer)) ?? null);
    for (const [layer, rule] of this.rules.entries())
      for (const [head, cursor] of (rule?.evict?.cursors ?? []).entries())
        this.#cursors.set(`${layer}.${head}`, cursor);
  }

  /** One token through all layers: `rows` holds a single row a layer. */
  step(rows: readonly PlainRows[]): void {
    const { model, views, next } = this.#cache;
    this.#cache.seen++;
    rows.forEach((row, layer) => {
      const positions = Int32Array.of(next[layer]!);
      this.#cache.append(layer, row, positions);
      const scene: PlainScene = {
        headDim: model.headDim,
        group: model.group,
        window: model.layerWindow[layer]!,
        views,
        layer,
        q: row.q,
        rowPositions: positions,
        hidden: row.hidden,
      };
      this.settle(
        layer,
        Array.from({ length: model.heads }, (_, head) => plainProbabilities(scene, head, 0)),
      );
    });
  }

  /** Carries out the layer's rule. `probabilities`: one array a query head, [entries]. */
  settle(layer: number, probabilities: readonly Float64Array[]): void {
    const rule = this.rules[layer];
    if (!rule) return;
    const { model, views, seen } = this.#cache;
    if (rule.within && !rule.within.steps.includes(seen % rule.within.period)) return;
    const value = (expression: Expression, head: number) =>
      this.#evaluate(
        expression,
        layer,
        head,
        probabilities.slice(head * model.group, (head + 1) * model.group).map(p => p.slice()),
      );
    for (const { name, value: expression } of rule.columns ?? [])
      for (const [head, view] of views[layer]!.entries())
        view.columns.set(name, Float32Array.from(value(expression, head)));
    if (!rule.evict) return;
    const { evict } = rule;
    const heads = (evict.heads ?? views[layer]!.map((_, head) => head)).slice();
    const values = evict.value ? heads.map(head => value(evict.value!, head)) : null;
    const sets = evict.per === 'layer' ? [heads] : heads.map(head => [head]);
    let dropped = false;
    for (const set of sets) {
      const of = values && set.map(head => values[heads.indexOf(head)]!);
      const mean = of ? of[0]!.map((_, i) => of.reduce((sum, each) => sum + each[i]!, 0) / of.length) : undefined;
      if (this.#evict(layer, set, evict, mean)) dropped = true;
    }
    if (dropped && rule.renumber) this.#cache.apply([{ do: 'renumber', layer }]);
  }

  #evict(layer: number, heads: readonly number[], rule: EvictRule, given: Float64Array | undefined): boolean {
    const view = (head: number) => this.#cache.views[layer]![head]!;
    let values = given && Array.from(given);
    let dropped = false;
    const { over } = rule;
    const limit = typeof over === 'number' ? over : Math.floor(over.share * this.#cache.seen + 1e-9);
    while (view(heads[0]!).positions.length > limit) {
      const entries = view(heads[0]!).positions.length;
      const free = Array.from({ length: entries }, (_, i) => i).slice(rule.first, Math.max(0, entries - rule.last));
      if (free.length === 0) break;
      const entry = this.#choose(`${layer}.${heads[0]}`, rule, free, values ?? []);
      for (const head of heads) {
        if (rule.compensate) this.#compensate(view(head), rule.first - 1, entry);
        const stay = Array.from(view(head).positions, (_, i) => i).filter(i => i !== entry);
        pickEntries(view(head), Uint32Array.from(stay), this.#cache.model.headDim);
      }
      values = values?.filter((_, i) => i !== entry);
      dropped = true;
    }
    return dropped;
  }

  /** RazorAttention: k <- k + (x - k) / (n + 1), n <- n + 1, with n in the bias. */
  #compensate(view: PlainView, target: number, entry: number): void {
    const { headDim } = this.#cache.model;
    const bias = view.columns.get('bias')!;
    const count = Math.round(Math.exp(bias[target]!)) + 1;
    for (const plane of [view.k, view.v])
      for (let c = 0; c < headDim; c++) {
        const mean = target * headDim + c;
        plane[mean]! += (plane[entry * headDim + c]! - plane[mean]!) / count;
      }
    bias[target] = Math.log(count);
  }

  #choose(key: string, rule: EvictRule, free: readonly number[], values: readonly number[]): number {
    if (rule.choose === 'oldest' || free.length === 1) return free[0]!;
    if (rule.choose === 'lowest') return free.reduce((low, i) => (values[i]! < values[low]! ? i : low));
    const pairs = free.length - 1;
    const at = (this.#cursors.get(key) ?? 0) % pairs;
    this.#cursors.set(key, (at + 1) % pairs);
    return values[free[at]!]! <= values[free[at + 1]!]! ? free[at]! : free[at + 1]!;
  }

  #evaluate(expression: Expression, layer: number, head: number, group: readonly Float64Array[]): Float64Array {
    const each = (of: Expression) => this.#evaluate(of, layer, head, group);
    const view = this.#cache.views[layer]![head]!;
    switch (expression.op) {
      case 'attention':
        return group[0]!.map((_, i) => {
          const values = group.map(p => p[i]!);
          if (expression.group === 'max') return Math.max(...values);
          const sum = values.reduce((a, b) => a + b, 0);
          return expression.group === 'sum' ? sum : sum / values.length;
        });
      case 'column':
        return Float64Array.from(this.#cache.at(layer).column(expression.name, head));
      case 'constant':
        return new Float64Array(view.positions.length).fill(expression.value);
      case 'pool':
        return plainPool(each(expression.of), expression.kind, expression.width);
      default: {
        const [a, b] = [each(expression.a), each(expression.b)];
        const apply = {
          add: (x: number, y: number) => x + y,
          multiply: (x: number, y: number) => x * y,
          divide: (x: number, y: number) => x / y,
          max: Math.max,
        }[expression.op];
        return a.map((x, i) => apply(x, b[i]!));
      }
    }
  }
}
