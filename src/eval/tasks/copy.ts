import type { Draw } from '../draw.ts';
import { asks, conversations } from './conversation.ts';
import { fitting } from './fill.ts';
import type { Instance, Task, Tools } from './types.ts';
import { hex, made, number, word } from './values.ts';

/** An exact repeat of a text, a random list, or one of several numbered paragraphs. */
export const COPY: Task = {
  name: 'copy',
  title: 'exact copy',
  upTo: true,
  generate(draw, length, tools) {
    return draw.choice([text, items, paragraph, paragraph])(draw, length, tools);
  },
};

const running = (draw: Draw, tools: Tools, tokens: number) =>
  tools.filler
    .natural(draw, tokens)
    .map(piece => piece.text)
    .join('')
    .trimStart();

function text(draw: Draw, length: number, tools: Tools): Instance | null {
  const tokens = Math.min(Math.floor((length - 50) / 2), draw.choice([30, 60, 120, 250, 500]));
  const body = running(draw, tools, tokens);
  if (body === '') return null;
  const question = `Repeat the following text exactly.\n\n${body}`;
  const turn = { question, lead: '', answer: body, parts: [body] };
  return fitting(tools, length, { system: null, turns: [turn], needles: [], ends: tools.phrasing === 'training' });
}

function items(draw: Draw, length: number, tools: Tools): Instance | null {
  const count = Math.min(Math.floor((length - 50) / 7), draw.choice([5, 10, 20, 40, 80]));
  if (count < 3) return null;
  const make = draw.choice([() => word(draw), () => number(draw), () => hex(draw, 6), () => made(draw, 3)]);
  const context = Array.from({ length: count }, make).join(draw.choice([', ', ' ', '\n']));
  const outline = {
    head: 'Copy the list exactly as it is.',
    context,
    questions: [asks('Write the list again.', context, context)],
  };
  return fitting(tools, length, conversations(draw, tools)(outline));
}

function paragraph(draw: Draw, length: number, tools: Tools): Instance | null {
  const count = Math.max(2, Math.min(12, Math.floor(length / 150)));
  const most = Math.min(Math.floor((length - 180) / count), 120);
  if (most < 25) return null;
  const texts = Array.from({ length: count }, () => running(draw, tools, draw.between(20, most)));
  if (texts.includes('')) return null;
  const asked = draw.between(0, count - 1);
  const body = texts.map((each, i) => `Paragraph ${i + 1}:\n${each}`).join('\n\n');
  const question = `Read these paragraphs.\n\n${body}\n\nRepeat paragraph ${asked + 1} exactly.`;
  const turn = { question, lead: '', answer: texts[asked]!, parts: [texts[asked]!] };
  return fitting(tools, length, { system: null, turns: [turn], needles: [], ends: tools.phrasing === 'training' });
}
