import { asks, conversations } from './conversation.ts';
import { fitting } from './fill.ts';
import type { Task } from './types.ts';

/** Largest, smallest, median, first and last of a list of numbers. */
export const NUMBERS: Task = {
  name: 'minmax',
  title: 'largest, smallest, median, first, last',
  upTo: true,
  generate(draw, length, tools) {
    const least = Math.min(length, draw.choice([128, 256, 512, 1024, 2048]));
    const digits = draw.choice([2, 3, 4, 5]);
    let count = Math.max(5, Math.floor((least - 110) / (digits + 2.2)));
    if (count % 2 === 0) count--;
    const numbers = Array.from({ length: count }, () => draw.between(10 ** (digits - 1), 10 ** digits - 1));
    const sorted = [...numbers].sort((a, b) => a - b);
    const facts = draw.shuffled([
      ['largest', sorted.at(-1)!],
      ['smallest', sorted[0]!],
      ...(count < 40 ? ([['median', sorted[count >> 1]!]] as const) : []),
      ['first', numbers[0]!],
      ['last', numbers.at(-1)!],
    ] as const);
    const questions = facts
      .slice(0, draw.choice([1, 2, 3]))
      .map(([name, value]) =>
        asks(`What is the ${name} number in the list?`, `The ${name} number in the list is ${value}.`, String(value)),
      );
    const context = numbers.join(draw.choice([', ', ' ', '\n']));
    const instance = conversations(draw, tools)({ head: 'Here is a list of numbers.', context, questions });
    return fitting(tools, length, instance);
  },
};
