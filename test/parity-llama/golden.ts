import { readFileSync } from 'node:fs';

/** Best id, second id, and their natural log-probabilities, whose difference is that of the logits. */
export type TopTwo = readonly [best: number, second: number, p: number, q: number];

/** Forced decoding as llama.cpp sees it, made by make.ts. */
export interface LlamaGolden {
  readonly model: { readonly file: string; readonly sha256: string };
  /** Versions and settings of the peer. */
  readonly peer: Readonly<Record<string, unknown>>;
  readonly cases: readonly LlamaCase[];
}

export interface LlamaCase {
  /** Token ids. */
  readonly prompt: readonly number[];
  /** The token ids forced after it. */
  readonly forced: readonly number[];
  /** Before each forced token: llama.cpp on the same weights as float32 (make_f32.py). */
  readonly f32: readonly TopTwo[];
  /** Before each forced token: llama.cpp on the file as it is, where it rounds the activations of every product to 8 bits. */
  readonly native: readonly TopTwo[];
  /** The same with one token a call instead of 512: other kernels, other rounding. Best ids only. */
  readonly nativeSingle: readonly number[];
}

export function readLlamaGolden(): LlamaGolden {
  return JSON.parse(readFileSync(new URL('../golden/llama-smollm2.json', import.meta.url), 'utf8')) as LlamaGolden;
}

/** How a row of best tokens compares with a reference. */
export interface Agreement {
  /** Share of equal best tokens. */
  readonly share: number;
  /** For each differing place, how far the reference's best two lie apart (logits). */
  readonly gaps: readonly number[];
}

export function agreement(best: readonly number[], reference: readonly TopTwo[]): Agreement {
  const gaps = reference.filter(([top], place) => top !== best[place]).map(([, , p, q]) => p - q);
  return { share: 1 - gaps.length / reference.length, gaps };
}
