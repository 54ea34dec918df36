import { asks } from './conversation.ts';
import { ofRecords } from './fill.ts';
import type { Task } from './types.ts';
import { hex } from './values.ts';

/** The value of a key in a JSON object (Liu et al., Lost in the Middle, arXiv:2307.03172). */
export const JSON_LOOKUP: Task = {
  name: 'json',
  title: 'JSON, 8 hex keys and values',
  generate(draw, length, tools) {
    const seen = new Set<string>();
    return ofRecords(draw, tools, length, {
      head: 'Here is a JSON object with many keys.',
      open: '{\n ',
      close: '\n}',
      separator: ',\n ',
      questions: 1,
      make() {
        const [key, value] = [hex(draw, 8), hex(draw, 8)];
        if (seen.has(key)) return this.make();
        seen.add(key);
        const question = `Extract the value corresponding to the key "${key}" from the JSON object above.`;
        return { text: `"${key}": "${value}"`, question: asks(question, value, value, `"${key}": "`) };
      },
    });
  },
};
