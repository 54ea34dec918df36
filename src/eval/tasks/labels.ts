import { asks } from './conversation.ts';
import { ofRecords } from './fill.ts';
import type { Task } from './types.ts';
import { made } from './values.ts';
import { CATEGORIES } from './words.ts';

/** Many-shot classification with made-up labels. */
export const LABELS: Task = {
  name: 'labels',
  title: 'made-up labels, many examples, 2-6 in turn (all right)',
  upTo: true,
  generate(draw, length, tools) {
    const kinds = draw.sample(Object.values(CATEGORIES), draw.choice([2, 3, 4, 6]));
    const labels = draw.distinct(kinds.length, () => made(draw));
    const shape = draw.choice([
      (word: string, label: string) => `Input: ${word}\nLabel: ${label}\n`,
      (word: string, label: string) => `${word} -> ${label}`,
      (word: string, label: string) => `Word: ${word} | Class: ${label}`,
    ]);
    return ofRecords(draw, tools, Math.min(length, draw.choice([300, 600, 1200, 2400, 5000])), {
      head: 'Learn the labels from these examples.',
      separator: '\n',
      noNeedles: true,
      questions: draw.choice([2, 4, 6]),
      make() {
        const kind = draw.between(0, kinds.length - 1);
        const label = labels[kind]!;
        const asked = draw.choice(kinds[kind]!);
        const question = asks(`Which label does "${asked}" get?`, label, label, `The label of "${asked}" is`);
        return { text: shape(draw.choice(kinds[kind]!), label), question };
      },
    });
  },
};
