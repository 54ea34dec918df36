import { asks } from '../../tasks/conversation.ts';
import { hex, uuid } from '../../tasks/values.ts';
import { pack, spread, turnOf } from '../fill.ts';
import type { ScbenchTask } from '../types.ts';

const FRAME = {
  open: 'Here is a JSON object with many keys.\n\n{\n ',
  separator: ',\n ',
  close: '\n}',
};

/** Values of random keys in a JSON object: nothing in it can be guessed or left out. */
export const KV: ScbenchTask = {
  name: 'kv',
  title: 'values of random keys',
  category: 'string',
  newTokens: 150,
  able: true,
  generate(draw, tokens, tools) {
    const random = () => (tools.phrasing === 'training' ? hex(draw, 8) : uuid(draw));
    const seen = new Set<string>();
    const fresh = () => {
      for (;;) {
        const text = random();
        if (seen.has(text)) continue;
        seen.add(text);
        return text;
      }
    };
    const { context, records } = pack(tools, tokens, FRAME, () => {
      const [key, value] = [fresh(), fresh()];
      return { key, value, text: `"${key}": "${value}"` };
    });
    const asked = spread(draw, records.length);
    if (!asked) return null;
    const turns = asked.map(index => {
      const { key, value, text } = records[index]!;
      const question = `Extract the value corresponding to the key "${key}" from the JSON object above.`;
      return turnOf(tools, context, asks(question, value, value, `"${key}": "`), {
        scorer: 'substring',
        evidence: [text],
      });
    });
    return { context, turns };
  },
};
