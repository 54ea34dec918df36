import { asks } from './conversation.ts';
import { ofRecords } from './fill.ts';
import type { Task } from './types.ts';
import { ALPHABETS, characters } from './values.ts';

/** A random string by its first characters (and its last). */
export const STRINGS: Task = {
  name: 'strings',
  title: 'string by prefix (and suffix), 1-6 in turn (all right)',
  generate(draw, length, tools) {
    const both = draw.chance(0.4);
    const [size, known] = [draw.choice([12, 16, 20]), draw.choice([4, 5, 6])];
    const alphabet = draw.choice(ALPHABETS);
    const seen = new Set<string>();
    return ofRecords(draw, tools, length, {
      head: 'Here is a list of strings.',
      separator: '\n',
      questions: draw.choice([1, 2, 4, 6]),
      make() {
        for (let tries = 0; tries < 50; tries++) {
          const text = characters(draw, alphabet, size);
          const start = text.slice(0, known);
          if (seen.has(start)) continue;
          seen.add(start);
          const question = `Find the string that starts with ${start}${both ? ` and ends with ${text.slice(-known)}` : ''}.`;
          return { text, question: asks(question, text, text, 'The string is') };
        }
        return null;
      },
    });
  },
};
