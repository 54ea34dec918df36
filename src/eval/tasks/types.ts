import type { Draw } from '../draw.ts';
import type { Filler } from './filler.ts';

/**
 * How questions are put. `training`: word for word as the bundled model was trained, answers given whole and ended by the
 * end-of-turn token. `natural`: for any other model; one question, the answer's opening words given, so that what must be
 * written next is the value itself.
 */
export type Phrasing = 'training' | 'natural';

/** A question about the context, before it is put into a phrasing. */
export interface Question {
  readonly text: string;
  /** The whole answer of the training phrasing. */
  readonly answer: string;
  /** Natural phrasing: the opening of the answer, and what must follow it. */
  readonly lead: string;
  readonly value: string;
  /** What a free answer must hold to be right. */
  readonly parts: readonly string[];
}

export interface Turn {
  /** The user's message; the first one holds the whole context. */
  readonly question: string;
  /** What the assistant's message already says. */
  readonly lead: string;
  /** What must be written then. */
  readonly answer: string;
  /** What a free answer must hold to be right. */
  readonly parts: readonly string[];
}

/** Something hidden in the context. */
export interface Needle {
  readonly text: string;
  /** Offset of its first character in the first turn's question. */
  readonly at: number;
  /** Where it lies in the context: 0 begin, 1 end. */
  readonly depth: number;
  /** Index of the turn that asks about it; -1: a distractor. */
  readonly turn: number;
}

/** One instance of a task: a conversation over one context. */
export interface Instance {
  readonly system: string | null;
  readonly turns: readonly Turn[];
  readonly needles: readonly Needle[];
  /** The answer must end where it does (training phrasing). */
  readonly ends: boolean;
}

/** What generators work with. */
export interface Tools {
  readonly phrasing: Phrasing;
  readonly filler: Filler;
  /** Tokens of a text. */
  count(text: string): number;
  /** Tokens of the whole conversation as the model sees it, answers included. */
  size(instance: Instance): number;
}

/** A family of tasks, or one setting of it. */
export interface Task {
  readonly name: string;
  readonly title: string;
  /** The length is the longest: instances of many lengths up to it, as in training. */
  readonly upTo?: boolean;
  /** An instance of at most `length` tokens, answers included; null where these draws give none that fits. */
  generate(draw: Draw, length: number, tools: Tools): Instance | null;
}
