import type { Draw } from '../draw.ts';
import type { Phrasing } from '../tasks/types.ts';
import type { ScorerName } from './scorers/index.ts';

export const CATEGORIES = ['string', 'semantic', 'global', 'multi'] as const;
/** What a task asks of a cache: to find strings, to understand, to look at everything, or two of these at once. */
export type Category = (typeof CATEGORIES)[number];

/** One question about the shared context. */
export interface ScbenchTurn {
  /** What the user says; it follows the context. */
  readonly input: string;
  /** How the assistant's message begins, where that is given. */
  readonly lead: string;
  /** What the reference conversation writes after the lead. */
  readonly reference: string;
  /** What the scorer compares with: a list also where there is one. */
  readonly answer: readonly string[];
  readonly scorer: ScorerName;
  readonly options?: readonly string[];
  /** Which of a task's kinds of question. */
  readonly kind?: string;
  /** Texts of the context that hold the answer, each there once; none where all of it does. */
  readonly evidence: readonly string[];
  /** Where the evidence lies on average: 0 the begin of the context, 1 its end; null without evidence. */
  readonly depth: number | null;
}

/** One shared context and its questions (SCBench, arXiv:2412.10319, section 3). */
export interface ScbenchSession {
  readonly id: string;
  readonly context: string;
  readonly turns: readonly ScbenchTurn[];
  /** The functions that the session's turns ask for: an answer must be nearest to its own. */
  readonly candidates?: readonly string[];
}

export interface ScbenchTools {
  readonly phrasing: Phrasing;
  /** Tokens of a text. */
  count(text: string): number;
}

export interface ScbenchTask {
  readonly name: string;
  readonly title: string;
  readonly category: Category;
  /** Most tokens of an answer in the paper, by kind where they differ. */
  readonly newTokens: number | Readonly<Record<string, number>>;
  /** The bundled model answers it, so that scores mean something; on the others it is compared with its own full cache. */
  readonly able: boolean;
  /** A context of at most `tokens` tokens with five questions; null where these draws give none. */
  generate(draw: Draw, tokens: number, tools: ScbenchTools): Omit<ScbenchSession, 'id'> | null;
}

/** Questions a session. */
export const TURNS = 5;
