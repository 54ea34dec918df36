import { pack, spread, turnOf } from '../fill.ts';
import type { ScbenchTask } from '../types.ts';
import { CHRONICLE_FRAME, chronicle } from './chronicle.ts';

const LETTERS = ['A', 'B', 'C', 'D'] as const;

/** Questions about people with four options each; every letter is right at least once a session. */
export const CHOICE_ENG: ScbenchTask = {
  name: 'choice_eng',
  title: 'facts in a chronicle, four options',
  category: 'semantic',
  newTokens: 40,
  able: false,
  generate(draw, tokens, tools) {
    const { context, records } = pack(tools, tokens, CHRONICLE_FRAME, chronicle(draw));
    const asked = spread(draw, records.length);
    if (!asked) return null;
    const letters = draw.shuffled([...LETTERS, draw.choice(LETTERS)]);
    const turns = asked.map((index, turn) => {
      const entry = records[index]!;
      const { question, value, others } = draw.choice(entry.facts);
      const letter = letters[turn]!;
      const wrong = draw.sample(others, LETTERS.length - 1);
      const options = LETTERS.map(each => (each === letter ? value : wrong.pop()!));
      const text = [question.text, ...LETTERS.map((each, i) => `${each}. ${options[i]}`), 'Answer with one letter.'];
      return turnOf(
        tools,
        context,
        { text: text.join('\n'), answer: letter, lead: 'The answer is', value: ` ${letter}`, parts: [letter] },
        { scorer: 'choice', evidence: [entry.text], options },
      );
    });
    return { context, turns };
  },
};
