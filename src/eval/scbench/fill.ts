import type { Draw } from '../draw.ts';
import type { Question } from '../tasks/types.ts';
import { type ScbenchTools, type ScbenchTurn, TURNS } from './types.ts';

/** What stands around records. */
export interface Frame {
  readonly open: string;
  readonly separator: string;
  readonly close?: string;
}

/** Draws in a row that may be too long to fit before no more are tried. */
const MISSES = 6;

/** As many records as fit, in the order in which they are made; `make` gets those that are in, and null from it ends it. */
export function pack<T extends { readonly text: string }>(
  tools: ScbenchTools,
  tokens: number,
  frame: Frame,
  make: (records: readonly T[]) => T | null,
): { readonly context: string; readonly records: readonly T[] } {
  const records: T[] = [];
  const context = () => join(frame, records);
  let room = tokens - tools.count(context());
  let misses = 0;
  for (let next = make(records); next && misses < MISSES; next = make(records)) {
    // As part of the list: a separator may share a token with what stands before it.
    const before = records.at(-1)?.text ?? '';
    const cost = tools.count(before + frame.separator + next.text) - tools.count(before);
    if (cost > room) {
      misses++;
      continue;
    }
    room -= cost;
    records.push(next);
  }
  while (records.length > 0 && tools.count(context()) > tokens) records.pop();
  return { context: context(), records };
}

function join({ open, separator, close = '' }: Frame, records: readonly { readonly text: string }[]): string {
  return open + records.map(({ text }) => text).join(separator) + close;
}

/** Indices of `turns` of `count` things, spread from the first to the last, in random order; null where they are too few. */
export function spread(draw: Draw, count: number, turns = TURNS): number[] | null {
  if (count < turns) return null;
  return draw.shuffled(Array.from({ length: turns }, (_, i) => Math.round((i / (turns - 1)) * (count - 1))));
}

type Rest = Pick<ScbenchTurn, 'scorer'> & Partial<Pick<ScbenchTurn, 'evidence' | 'options' | 'kind'>>;

/** A question in its phrasing; where its evidence lies is read off the context. */
export function turnOf(tools: ScbenchTools, context: string, question: Question, rest: Rest): ScbenchTurn {
  const training = tools.phrasing === 'training';
  const { evidence = [] } = rest;
  return {
    input: question.text,
    lead: training ? '' : question.lead,
    reference: training ? question.answer : question.value,
    answer: question.parts,
    ...rest,
    evidence,
    depth: evidence.length > 0 ? depthOf(context, evidence) : null,
  };
}

function depthOf(context: string, evidence: readonly string[]): number {
  let sum = 0;
  for (const text of evidence) sum += context.indexOf(text) / Math.max(1, context.length - text.length);
  return sum / evidence.length;
}
