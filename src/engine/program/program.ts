import type { FormatName, PageOptions } from '../../cache/types.ts';
import { KvasirError } from '../../errors.ts';
import type { ModelShape, Policy, RetrieveRule } from '../../methods/types.ts';
import { askedRows } from '../sense/query-rows.ts';

/** One method of a recipe, ready for one model. */
export interface Part {
  readonly name: string;
  readonly policy: Policy;
}

/**
 * A recipe made ready for one model: what its methods ask of the pages, of the prefill and of each step. Shared by all requests
 * that name it. Prompts under one go layer by layer, so that each layer is decided with the whole prompt seen.
 */
export class Program {
  /** Canonical text of the recipe. */
  readonly text: string;
  readonly parts: readonly Part[];
  readonly model: ModelShape;
  /** A prefix of the cache may be reused under any continuation. */
  readonly prefixStable: boolean;
  /** Tokens a prompt is cut into; Infinity: one chunk. */
  readonly chunk: number;
  /** By layer: what chooses what is read there (one method of a recipe at most); null where no layer has any. */
  readonly retrieval: readonly (RetrieveRule | null)[] | null;
  /** Place among `parts` of the method that chooses; -1: none does. */
  readonly reader: number;

  /** For probes, which are texts; see PromptText. */
  readonly tokenize: (text: string) => readonly number[];

  constructor(
    text: string,
    parts: readonly Part[],
    model: ModelShape,
    prefixStable: boolean,
    tokenize: (text: string) => readonly number[] = noTokenizer,
  ) {
    this.tokenize = tokenize;
    this.text = text;
    this.parts = parts;
    this.model = model;
    this.prefixStable = prefixStable;
    this.chunk = Math.min(...parts.map(({ policy }) => policy.chunk ?? Number.POSITIVE_INFINITY));
    this.reader = parts.findIndex(({ policy }) => policy.retrieve);
    const reader = parts[this.reader]?.policy;
    const rules = Array.from({ length: model.layers }, (_, layer) => reader?.retrieve?.(layer) ?? null);
    this.retrieval = rules.some(Boolean) ? rules : null;
  }

  /** Entries that a view holds at most after each step of decoding, of a sequence of `tokens` tokens in the end; see Policy.most. */
  most(tokens: number): number {
    return Math.min(tokens, ...this.parts.map(({ policy }) => policy.most?.(tokens) ?? tokens));
  }

  /** Nothing to do at all: requests under it are those of the full cache. */
  get idle(): boolean {
    return this.parts.every(({ policy }) => Object.keys(policy).length === 0);
  }

  /** Its pages need more than a format: sequences made without it cannot go on under it. */
  get needsPages(): boolean {
    return this.parts.some(({ policy }) => policy.pages?.keysUnrotated || (policy.pages?.columns?.length ?? 0) > 0);
  }

  /** Page options of a sequence under this recipe. */
  pages(format: FormatName): PageOptions {
    const columns = [...new Set(this.parts.flatMap(({ policy }) => policy.pages?.columns ?? []))].sort();
    const keysUnrotated = this.parts.some(({ policy }) => policy.pages?.keysUnrotated);
    return {
      formatK: format,
      formatV: format,
      ...(columns.length > 0 && { columns }),
      ...(keysUnrotated && { keysUnrotated }),
    };
  }

  /** Rows of a prompt, ascending, whose queries signals of a layer are about. */
  queryRows(layer: number, rows: number, seed: number): Uint32Array {
    return askedRows(
      this.parts.flatMap(({ policy }) => policy.sense?.(layer) ?? []),
      rows,
      seed,
    );
  }
}

function noTokenizer(): never {
  throw new KvasirError('unsupported', 'this program was made without a tokenizer: its methods cannot write probes', {
    field: 'kv',
    allowed: 'methods without a probe',
  });
}
