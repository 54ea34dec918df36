import type { Draw } from '../draw.ts';
import { conversations } from './conversation.ts';
import { hide } from './haystack.ts';
import type { Instance, Question, Tools } from './types.ts';

/** The least haystack, tokens. */
const LEAST = 20;

export interface HaystackPlan {
  readonly head: string;
  readonly filler: 'text' | 'noise';
  /** Sentences to hide, each with its leading space, in the order in which they will stand. */
  readonly units: readonly string[];
  readonly questions: readonly Question[];
  /** The question (index) about each unit; -1: none. */
  readonly about: readonly number[];
  /** Where a single unit goes; without it, random places. */
  readonly depth?: number;
}

/** Hides units in as much filler as the length leaves. */
export function inHaystack(draw: Draw, tools: Tools, length: number, plan: HaystackPlan): Instance | null {
  const { head, units, questions } = plan;
  const converse = conversations(draw, tools);
  const room = length - tools.size(converse({ head, context: units.join(''), questions })) - 2;
  if (room < LEAST) return null;
  const pieces = tools.filler[plan.filler === 'noise' ? 'noise' : 'natural'](draw, room);
  if (pieces.length === 0) return null;
  const { text, offsets } = hide(draw, pieces, units, plan.depth);
  const needles = units.map((unit, i) => ({ text: unit.trim(), at: offsets[i]!, question: plan.about[i]! }));
  return fitting(tools, length, converse({ head, context: text, questions, needles }));
}

export interface Record {
  readonly text: string;
  readonly question: Question;
}

export interface RecordPlan {
  readonly head: string;
  /** Around the records; default nothing. */
  readonly open?: string;
  readonly close?: string;
  readonly separator: string;
  /** How many questions; a number that leaves no room for records is lowered. */
  readonly questions: number;
  /** No single record holds the answer: none is a needle. */
  readonly noNeedles?: boolean;
  /** A new record; null where it can make no more. */
  make(): Record | null;
}

/** A context of nothing but records, as many as the length leaves, and questions about some of them. */
export function ofRecords(draw: Draw, tools: Tools, length: number, plan: RecordPlan): Instance | null {
  const { head, open = '', close = '', separator } = plan;
  const converse = conversations(draw, tools);
  const records: Record[] = [];
  const outline = (asked: readonly number[]) => {
    let text = open;
    const needles = records.map((record, i) => {
      text += i === 0 ? '' : separator;
      text += record.text;
      return { text: record.text, at: text.length - record.text.length, question: asked.indexOf(i) };
    });
    const questions = asked.map(i => records[i]!.question);
    const held = plan.noNeedles ? [] : needles.filter(needle => needle.question >= 0);
    return converse({ head, context: text + close, questions, needles: held });
  };

  const first = plan.make();
  if (!first) return null;
  records.push(first);
  const least = (count: number) => tools.size(outline(new Array<number>(count).fill(0)));
  let count = plan.questions;
  while (count > 1 && least(count) + 3 * count * tools.count(separator + first.text) > length) count--;
  let room = length - least(count) - 2 - count;
  let before = first.text;
  for (let next = plan.make(); next; next = plan.make()) {
    // As part of the list: a separator may share a token with what stands before it.
    room -= tools.count(before + separator + next.text) - tools.count(before);
    if (room < 0) break;
    records.push(next);
    before = next.text;
  }
  // Answers differ in length from the first record's: records that nobody asks about give way.
  const asked = draw.sample([...records.keys()], count).sort((a, b) => a - b);
  const turns = draw.shuffled(asked);
  for (;;) {
    const instance = outline(turns);
    if (tools.size(instance) <= length) return instance;
    const spare = records.findLastIndex((_, i) => !turns.includes(i));
    if (spare < 0) return null;
    records.splice(spare, 1);
    for (const [i, index] of turns.entries()) if (index > spare) turns[i] = index - 1;
  }
}

/** The instance where it fits, else null. */
export function fitting(tools: Tools, length: number, instance: Instance): Instance | null {
  return tools.size(instance) <= length ? instance : null;
}
