import { asksAll, conversations } from './conversation.ts';
import { fitting } from './fill.ts';
import type { Task } from './types.ts';
import { word } from './values.ts';

/** The most frequent words of a list (RULER, arXiv:2404.06654, section 3, frequent words extraction). */
export const FREQUENT: Task = {
  name: 'count',
  title: 'most frequent 1-3 words, in order',
  upTo: true,
  generate(draw, length, tools) {
    const asked = draw.choice([1, 2, 3]);
    const count = Math.floor((Math.min(length, draw.choice([256, 512, 1024, 2048])) - 90) / 2.6);
    if (count < 30) return null;
    const frequent = draw.distinct(asked, () => word(draw));
    const times = Math.max(5, Math.floor((count * draw.choice([0.1, 0.15, 0.2])) / asked));
    const rare = draw
      .distinct(Math.max(6, Math.floor((count - asked * times) / 2)), () => word(draw))
      .filter(each => !frequent.includes(each));
    // Each is more frequent than the next: the order is the answer's.
    const words = frequent.flatMap((each, i) =>
      new Array<string>(times + (asked - i) * Math.max(1, Math.floor(times / 6))).fill(each),
    );
    while (words.length < count) words.push(draw.choice(rare));
    const question =
      asked > 1
        ? `What are the ${asked} most common words in the above list?`
        : 'What is the most common word in the above list?';
    const lead = asked > 1 ? `The ${asked} most common words are` : 'The most common word is';
    const instance = conversations(
      draw,
      tools,
    )({
      head: 'Below is a list of words. Some of them appear more often than others. Memorize the ones that appear most often.',
      context: draw.shuffled(words).join(' '),
      questions: [asksAll(question, frequent.join(', '), frequent, lead)],
    });
    return fitting(tools, length, instance);
  },
};
