/** Decisions of every decoding step at one layer, evaluated by the backend after its attention. */
export interface StepRule {
  /** New values of columns, in order, before eviction. */
  readonly columns?: readonly { readonly name: string; readonly value: Expression }[];
  readonly evict?: EvictRule;
  /** Entries of the view get positions 0, 1, 2, ... after an eviction. */
  readonly renumber?: boolean;
  /** Holds at steps only whose number (tokens seen, the newest included) modulo `period` is among `steps`. Default: every step. */
  readonly within?: { readonly period: number; readonly steps: readonly number[] };
}

/** While a view holds more than `over` entries: drops the one with the lowest value among those not protected (ties: the earliest). */
export interface EvictRule {
  /** Entries, or a share of the tokens seen so far, the newest included. */
  readonly over: number | { readonly share: number };
  /** `oldest`: the first unprotected one. `neighbours`: the lower of entries c and c + 1, c the view's cursor, which goes on cyclically (TreeKV). */
  readonly choose: 'lowest' | 'oldest' | 'neighbours';
  /** [kvHeads]: where cursors stand after the prompt. Default: where they stood before it, 0 at first. */
  readonly cursors?: readonly number[];
  readonly value?: Expression;
  /** Entries at the start and at the end that are never dropped. */
  readonly first: number;
  readonly last: number;
  /** One choice a head, or one for the layer (the value is then the mean over its heads; views must be alike). */
  readonly per: 'head' | 'layer';
  /** KV heads that it holds for; default all. */
  readonly heads?: readonly number[];
  /** What is dropped goes into the running mean of entry `first` - 1, a compensation entry with bias ln(count) (RazorAttention). */
  readonly compensate?: boolean;
}

/** An f32 value an entry. Arrays are those of one view; the newest entry is the last. */
export type Expression =
  /** Probabilities that the step's query gave to the entries, reduced over the group's query heads. */
  | { readonly op: 'attention'; readonly group: 'mean' | 'sum' | 'max' }
  | { readonly op: 'column'; readonly name: string }
  | { readonly op: 'constant'; readonly value: number }
  | { readonly op: 'add' | 'multiply' | 'divide' | 'max'; readonly a: Expression; readonly b: Expression }
  | { readonly op: 'pool'; readonly kind: 'mean' | 'max'; readonly width: number; readonly of: Expression };
