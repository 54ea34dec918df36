import type { Draw } from '../draw.ts';
import { ADJECTIVES, NOUNS } from './common-words.ts';
import { asks } from './conversation.ts';
import { ofRecords, type Record } from './fill.ts';
import type { Task } from './types.ts';
import { number, pair, person } from './values.ts';
import { CITIES } from './words.ts';

interface Register {
  readonly head: string;
  record(draw: Draw): Record & { readonly key: string };
}

const REGISTERS: readonly Register[] = [
  {
    head: 'Below is a record of lines. Each line begins with its name and holds a number.',
    record(draw) {
      const [key, value] = [pair(draw), number(draw, 5, 5)];
      const question = `What is the <REGISTER_CONTENT> in line ${key}?`;
      const answer = `The <REGISTER_CONTENT> in line ${key} is <${value}>.`;
      return { key, text: `line ${key}: REGISTER_CONTENT is <${value}>`, question: asks(question, answer, value) };
    },
  },
  {
    head: 'Phone book:',
    record(draw) {
      const [key, value] = [person(draw), `${draw.between(200, 998)}-${draw.between(1000, 9998)}`];
      const question = `What is the phone number of ${key}?`;
      return { key, text: `${key}: ${value}`, question: asks(question, value, value, `The phone number of ${key} is`) };
    },
  },
  {
    head: 'Name | Age | City',
    record(draw) {
      const [key, city, age] = [person(draw), draw.choice(CITIES), String(draw.between(18, 89))];
      const question = draw.chance(0.5)
        ? asks(`In which city does ${key} live?`, city, city, `${key} lives in`)
        : asks(`How old is ${key}?`, age, age, `The age of ${key} is`);
      return { key, text: `${key} | ${age} | ${city}`, question };
    },
  },
  {
    head: 'Price list:',
    record(draw) {
      const key = `${draw.choice(ADJECTIVES)} ${draw.choice(NOUNS)}`;
      const value = `${draw.between(1, 399)}.${draw.between(10, 98)}`;
      const question = asks(`How much does the ${key} cost?`, `The ${key} costs $${value}.`, value);
      return { key, text: `- ${key}: $${value}`, question };
    },
  },
];

/** Lines of a register, a phone book, a table or a price list. */
export const REGISTER: Task = {
  name: 'registers',
  title: 'registers, phone books, tables, prices: 2-6 in turn (all right)',
  generate(draw, length, tools) {
    const { head, record } = draw.choice(REGISTERS);
    const seen = new Set<string>();
    return ofRecords(draw, tools, length, {
      head,
      separator: '\n',
      questions: draw.choice([2, 3, 4, 6]),
      make() {
        for (let tries = 0; tries < 50; tries++) {
          const made = record(draw);
          if (seen.has(made.key)) continue;
          seen.add(made.key);
          return made;
        }
        return null;
      },
    });
  },
};
