import { asks, conversations } from './conversation.ts';
import { fitting } from './fill.ts';
import type { Question, Task } from './types.ts';

const NAME = /\b([A-Z][a-z]+(?: [A-Z][a-z]+){0,2}|\d{4}|\d[\d,.]*\d)\b/g;

/** Running text: what stands in a gap of one of its sentences, or how a sentence goes on. */
export const GAPS: Task = {
  name: 'gaps',
  title: 'gaps and continuations in natural text, 1-5 in turn (all right)',
  generate(draw, length, tools) {
    const count = Math.max(1, Math.min(draw.choice([2, 3, 4, 5]), Math.floor(length / 150)));
    const available = length - 40 - count * 60;
    if (available < 120) return null;
    const whole = draw.chance(0.5);
    const each = whole ? available : Math.max(60, Math.min(400, Math.floor(available / draw.choice([1, 2, 4, 8, 12]))));
    let context = '';
    for (let room = available; room >= each; room -= each) {
      const pieces = tools.filler.natural(draw, each - 2);
      context += pieces.map(piece => piece.text).join('');
    }
    context = context.trim();
    const sentences = context.split(/(?<=[.!?])\s+/).filter(s => s.length > 40 && s.length < 220);
    const once = sentences.filter(s => sentences.filter(other => other === s).length === 1);
    const questions: Question[] = [];
    for (const sentence of draw.shuffled(once)) {
      if (questions.length === count) break;
      const names = [...sentence.matchAll(NAME)].filter(match => match.index > 0);
      if (names.length > 0 && draw.chance(0.8)) {
        const { index, 1: name } = draw.choice(names) as RegExpExecArray;
        const gap = `${sentence.slice(0, index)}____${sentence.slice(index + name!.length)}`;
        const question = `Fill in the blank with the words used in the text: ${gap}`;
        questions.push(asks(question, name!, name!, 'The missing words are'));
      } else {
        const words = sentence.split(/\s+/);
        if (words.length <= 10) continue;
        const cut = draw.between(5, words.length - 4);
        const rest = words.slice(cut).join(' ');
        const begin = words.slice(0, cut).join(' ');
        questions.push(asks(`How does the sentence go on that begins with: ${begin}`, rest, rest, begin));
      }
    }
    if (questions.length === 0) return null;
    const head = draw.choice(['', 'Read the text carefully.']);
    const converse = conversations(draw, tools);
    // What was kept free for the questions and is not needed; text that would repeat a sentence is left out.
    const room = length - tools.size(converse({ head, context, questions })) - 2;
    const rest = tools.filler.natural(draw, room).filter(piece => !context.includes(piece.text.trim()));
    context += rest.map(piece => piece.text).join('');
    return fitting(tools, length, converse({ head, context, questions }));
  },
};
