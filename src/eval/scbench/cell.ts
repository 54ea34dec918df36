import { logSumExp } from '../../engine/sampler.ts';
import { Divergence } from '../meters/divergence.ts';
import type { EncodedSession } from './encode.ts';
import type { Played, PlayedTurn } from './play.ts';
import { scoreTurn } from './scorers/index.ts';
import type { ScbenchSession } from './types.ts';

/** Means over sessions of one turn. */
export interface TurnMeans extends Pick<PlayedTurn, 'firstTokenMs' | 'reused' | 'run' | 'held' | 'kept' | 'fetched'> {
  /** 0..1; null where nothing was written. */
  readonly score: number | null;
  /** Of the reference, forced: nats a token. */
  readonly nll: number;
  /** Against the full f32 cache on the same tokens: share of equal likeliest tokens, KL(full || measured) in nats. */
  readonly agreement: number;
  readonly kl: number;
}

export interface CellMeans {
  readonly n: number;
  /** Means over sessions; see Played. */
  readonly context: Played['context'];
  readonly turns: readonly TurnMeans[];
  /** [session][turn] */
  readonly scores: readonly (readonly number[])[] | null;
  /** Of tasks with several kinds of question: answers and their mean score. */
  readonly kinds: Readonly<Record<string, { readonly count: number; readonly score: number }>>;
}

interface TurnSums {
  readonly divergence: Divergence;
  nll: number;
  places: number;
  readonly sums: Record<'firstTokenMs' | 'reused' | 'run' | 'held' | 'kept' | 'fetched', number>;
}

/** Adds up sessions that were played under one setting. */
export class CellSums {
  readonly #turns: TurnSums[] = [];
  readonly #context: Record<keyof Played['context'], number> = {
    tokens: 0, prefillMs: 0, recipeMs: 0, held: 0, kept: 0, peak: 0, parked: 0,
  }; // biome-ignore format: one line reads as the list it is
  readonly #scores: number[][] = [];
  readonly #kinds = new Map<string, number[]>();
  #n = 0;

  /**
   * @param truth the same tokens on the full f32 cache
   * @param texts what was written, by turn; null where nothing was
   */
  add(
    session: ScbenchSession,
    encoded: EncodedSession,
    played: Played,
    truth: Played,
    texts: readonly string[] | null,
  ): void {
    this.#n++;
    for (const key of Object.keys(this.#context) as (keyof Played['context'])[])
      this.#context[key] += played.context[key];
    for (const [i, turn] of played.turns.entries()) {
      this.#turns[i] ??= emptyTurn();
      const into = this.#turns[i]!;
      const { reference } = encoded.turns[i]!;
      for (const [place, logits] of turn.logits.entries()) {
        into.divergence.add(truth.turns[i]!.logits[place]!, logits);
        into.nll += logSumExp(logits) - logits[reference[place] ?? encoded.end!]!;
        into.places++;
      }
      for (const key of Object.keys(into.sums) as (keyof TurnSums['sums'])[]) into.sums[key] += turn[key];
    }
    if (!texts) return;
    const scores = session.turns.map((turn, i) => scoreTurn(texts[i]!, turn, session));
    this.#scores.push(scores);
    for (const [i, { kind }] of session.turns.entries())
      if (kind !== undefined) this.#kinds.set(kind, [...(this.#kinds.get(kind) ?? []), scores[i]!]);
  }

  means(): CellMeans {
    const n = this.#n;
    const scored = this.#scores.length > 0;
    return {
      n,
      context: divided(this.#context, n),
      turns: this.#turns.map(({ divergence, nll, places, sums }, i) => {
        const { agreement, kl } = divergence.result();
        const score = scored ? mean(this.#scores.map(scores => scores[i]!)) : null;
        return { score, nll: nll / places, agreement, kl, ...divided(sums, n) };
      }),
      scores: scored ? this.#scores : null,
      kinds: Object.fromEntries(
        [...this.#kinds].map(([kind, scores]) => [kind, { count: scores.length, score: mean(scores) }]),
      ),
    };
  }
}

const emptyTurn = (): TurnSums => ({
  divergence: new Divergence(),
  nll: 0,
  places: 0,
  sums: { firstTokenMs: 0, reused: 0, run: 0, held: 0, kept: 0, fetched: 0 },
});

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function divided<K extends string>(sums: Readonly<Record<K, number>>, n: number): Record<K, number> {
  return Object.fromEntries(Object.entries<number>(sums).map(([key, sum]) => [key, sum / n])) as Record<K, number>;
}
