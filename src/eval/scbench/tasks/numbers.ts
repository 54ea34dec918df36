import { asks } from '../../tasks/conversation.ts';
import { pack, turnOf } from '../fill.ts';
import type { ScbenchTask } from '../types.ts';

const FRAME = { open: 'Here is a list of numbers.\n\n', separator: ', ' };

/** Numbers that only the whole list tells, `first` and `last` apart: the bundled model knows no second and third largest. */
export const NUMBERS: ScbenchTask = {
  name: 'mf',
  title: 'largest, smallest and such of a list',
  category: 'global',
  newTokens: 5,
  able: true,
  generate(draw, tokens, tools) {
    const digits = draw.choice([3, 4, 5]);
    const [least, most] = [10 ** (digits - 1), 10 ** digits - 1];
    const seen = new Set<number>();
    const { records } = pack(tools, tokens, FRAME, () => {
      // Lists of three digits end before numbers do: each stands once, so that no question has two answers.
      if (seen.size > (most - least) / 2) return null;
      for (;;) {
        const value = draw.between(least, most);
        if (seen.has(value)) continue;
        seen.add(value);
        return { value, text: String(value) };
      }
    });
    const count = records.length - (records.length % 2 === 0 ? 1 : 0);
    if (count < 5) return null;
    const values = records.slice(0, count).map(({ value }) => value);
    const context = FRAME.open + values.join(FRAME.separator);
    const sorted = [...values].sort((a, b) => a - b);
    const own =
      tools.phrasing === 'training'
        ? { first: values[0]!, last: values.at(-1)! }
        : { 'second largest': sorted.at(-2)!, 'third largest': sorted.at(-3)! };
    const facts = { largest: sorted.at(-1)!, smallest: sorted[0]!, median: sorted[count >> 1]!, ...own };
    const turns = draw.shuffled(Object.entries(facts)).map(([kind, value]) => {
      const text = String(value);
      const question = asks(
        `What is the ${kind} number in the list?`,
        `The ${kind} number in the list is ${text}.`,
        text,
        `The ${kind} number is`,
      );
      return turnOf(tools, context, question, { scorer: 'number', kind });
    });
    return { context, turns };
  },
};
