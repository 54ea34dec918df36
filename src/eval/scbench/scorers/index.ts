import type { ScbenchSession, ScbenchTurn } from '../types.ts';
import { sentenceBleu } from './bleu.ts';
import { characterF1 } from './characters.ts';
import { rougeLsum } from './rouge.ts';

/** What an answer is compared with. */
type Compared = Pick<ScbenchTurn, 'answer'> & { readonly candidates: readonly string[] };

/**
 * The scorers of SCBench (microsoft/MInference, scbench/eval_utils.py), 0..1. Its known faults are not repeated: references are
 * lists (never looped over by character), and the key-value half of repoqa_and_kv looks at the answer's text.
 */
export const SCORERS = {
  /** The reference is part of the answer. */
  substring: (written: string, { answer }: Compared) => Number(answer.every(part => written.includes(part))),
  /** Any reference is, whatever the case. */
  any: (written: string, { answer }: Compared) =>
    Number(answer.some(part => written.toLowerCase().includes(part.toLowerCase()))),
  /** Share of the references that are, whatever the case. */
  share: (written: string, { answer }: Compared) => {
    const text = written.toLowerCase();
    return answer.filter(part => text.includes(part.toLowerCase())).length / answer.length;
  },
  /** The first number equals the reference. */
  number: (written: string, { answer }: Compared) => {
    const [first] = /-?\d+(?:\.\d+)?/.exec(written) ?? [];
    return Number(first !== undefined && answer.some(part => Number(part) === Number(first)));
  },
  /** The first letter, or the one after "answer is" and the like, is the reference. */
  choice: (written: string, { answer }: Compared) => Number(answer.includes(choiceOf(written) ?? '')),
  /** Best F1 of characters. */
  characters: (written: string, { answer }: Compared) => Math.max(0, ...answer.map(part => characterF1(written, part))),
  /** Best ROUGE-Lsum F. */
  rouge: (written: string, { answer }: Compared) => Math.max(0, ...answer.map(part => rougeLsum(written, part))),
  /** The first code block is nearest to the function asked for, and near enough. */
  function: (written: string, { answer, candidates }: Compared) => {
    const code = firstCodeBlock(written);
    const own = Math.max(0, ...answer.map(part => sentenceBleu(code, part)));
    const others = candidates.filter(each => !answer.includes(each)).map(each => sentenceBleu(code, each));
    return Number(own >= LEAST_BLEU && others.every(other => other < own));
  },
} as const satisfies Record<string, (written: string, compared: Compared) => number>;

export type ScorerName = keyof typeof SCORERS;

const LEAST_BLEU = 0.8;

/** Score of a freely written answer (what follows the turn's lead). */
export function scoreTurn(written: string, turn: ScbenchTurn, session: Pick<ScbenchSession, 'candidates'>): number {
  // A code block that the lead opens belongs to the answer; other leads may hold what must not be found by itself.
  const text = turn.lead.includes('```') ? turn.lead + written : written;
  return SCORERS[turn.scorer](text, { answer: turn.answer, candidates: session.candidates ?? [] });
}

function choiceOf(written: string): string | undefined {
  const text = written.trim();
  const first = /^[^A-Za-z]*([A-D])(?![A-Za-z])/.exec(text);
  const named = /(?:[Aa]nswer|[Oo]ption|[Cc]hoice)(?:\s+is)?\s*:?[^A-Za-z]*([A-D])(?![A-Za-z])/.exec(text);
  return (first ?? named)?.[1];
}

function firstCodeBlock(written: string): string {
  const [, code] = /```(?:\w*\n)?([\s\S]*?)(?:```|$)/.exec(written) ?? [];
  return (code ?? written).trim();
}
