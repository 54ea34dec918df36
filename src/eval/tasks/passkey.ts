import { asks } from './conversation.ts';
import { inHaystack } from './fill.ts';
import type { Task } from './types.ts';
import { number } from './values.ts';

/** A pass key in noise (Mohtashami and Jaggi, arXiv:2305.16300). */
export const PASSKEY: Task = {
  name: 'passkey',
  title: 'passkey',
  generate(draw, length, tools) {
    const depth = draw.next();
    const key = number(draw, 5, 6);
    return inHaystack(draw, tools, length, {
      head: 'There is important information hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you about it.',
      filler: draw.chance(0.7) ? 'noise' : 'text',
      units: [` The pass key is ${key}. Remember it. ${key} is the pass key.`],
      questions: [asks('What is the pass key?', `The pass key is ${key}.`, key)],
      about: [0],
      depth,
    });
  },
};
