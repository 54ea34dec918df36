import type { Draw } from '../draw.ts';
import type { Instance, Needle, Question, Tools } from './types.ts';

const SYSTEMS = [
  'You are a helpful assistant.',
  'You are Kvasir, a small and helpful language model.',
  'Answer the questions about the text.',
  'You answer briefly and exactly.',
];

export interface Outline {
  readonly head: string;
  readonly context: string;
  readonly questions: readonly Question[];
  /** Things in the context: text, character offset in it, and the index of the question about it (-1: none). */
  readonly needles?: readonly { readonly text: string; readonly at: number; readonly question: number }[];
}

/**
 * Makes conversations: head, context and the first question in one message, further questions as further turns.
 * Training put a system message before 12 % of them (drawn once, here); the natural phrasing asks the first question only.
 */
export function conversations(draw: Draw, tools: Tools): (outline: Outline) => Instance {
  const training = tools.phrasing === 'training';
  const system = training && draw.chance(0.12) ? draw.choice(SYSTEMS) : null;
  return ({ head, context, questions, needles = [] }) => {
    const asked = training ? questions : questions.slice(0, 1);
    const opening = head === '' ? '' : `${head}\n\n`;
    const place = ({ text, at, question }: (typeof needles)[number]): Needle => ({
      text,
      at: opening.length + at,
      depth: context.length > text.length ? at / (context.length - text.length) : 0,
      turn: question < asked.length ? question : -1,
    });
    const turns = asked.map((question, i) => ({
      question: i === 0 ? `${opening}${context}\n\n${question.text}` : question.text,
      lead: training ? '' : question.lead,
      answer: training ? question.answer : question.value,
      parts: question.parts,
    }));
    return { system, turns, needles: needles.map(place), ends: training };
  };
}

/** A question; where `value` stands in the answer, the natural phrasing gives what comes before it (or `lead`). */
export function asks(text: string, answer: string, value: string, lead?: string): Question {
  const before = (lead ?? answer.slice(0, answer.lastIndexOf(value))).trimEnd();
  // Tokens of most vocabularies begin with their space: it belongs to the value.
  const joined = before === '' || /["<$]$/.test(before) ? value : ` ${value}`;
  return { text, answer, lead: before, value: joined, parts: [value] };
}

/** A question with several values as its answer, in this order. */
export function asksAll(text: string, answer: string, values: readonly string[], lead: string): Question {
  return { text, answer, lead, value: ` ${values.join(', ')}`, parts: values };
}
