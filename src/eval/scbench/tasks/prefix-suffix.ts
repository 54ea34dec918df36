import type { Draw } from '../../draw.ts';
import { asks } from '../../tasks/conversation.ts';
import { ALPHABETS, characters } from '../../tasks/values.ts';
import { pack, spread, turnOf } from '../fill.ts';
import type { ScbenchTask, ScbenchTools } from '../types.ts';

const FRAME = { open: 'Here is a list of strings.\n\n', separator: '\n' };

/** Random strings, each found by its first and last characters, which no other has both. */
export const PREFIX_SUFFIX: ScbenchTask = {
  name: 'prefix_suffix',
  title: 'strings by prefix and suffix',
  category: 'string',
  newTokens: 150,
  able: true,
  generate(draw, tokens, tools) {
    const { known, make } = shape(draw, tools);
    const seen = new Set<string>();
    const { context, records } = pack(tools, tokens, FRAME, () => {
      for (;;) {
        const text = make();
        const ends = [text.slice(0, known), text.slice(-known)] as const;
        // The bundled model was trained on strings whose first characters alone are enough.
        const key = tools.phrasing === 'training' ? ends[0] : ends.join(' ');
        if (seen.has(key)) continue;
        seen.add(key);
        return { text, ends };
      }
    });
    const asked = spread(draw, records.length);
    if (!asked) return null;
    const turns = asked.map(index => {
      const { text, ends } = records[index]!;
      const question = `Find the string that starts with ${ends[0]} and ends with ${ends[1]}.`;
      return turnOf(tools, context, asks(question, text, text, 'The string is'), {
        scorer: 'substring',
        evidence: [text],
      });
    });
    return { context, turns };
  },
};

/** As in training, strings of a session are alike in length and alphabet; else 8 to 32 letters. */
function shape(draw: Draw, { phrasing }: ScbenchTools): { known: number; make: () => string } {
  if (phrasing === 'natural') return { known: 3, make: () => characters(draw, ALPHABETS[0]!, draw.between(8, 32)) };
  const [size, known, alphabet] = [draw.choice([12, 16, 20]), draw.choice([4, 5, 6]), draw.choice(ALPHABETS)];
  return { known, make: () => characters(draw, alphabet, size) };
}
