import { pack, spread, turnOf } from '../fill.ts';
import { type ScbenchTask, TURNS } from '../types.ts';
import { CHRONICLE_FRAME, chronicle, friendsHome } from './chronicle.ts';

/** Questions about people: four about one fact each, and one about two. */
export const QA_ENG: ScbenchTask = {
  name: 'qa_eng',
  title: 'facts in a chronicle',
  category: 'semantic',
  newTokens: 40,
  able: false,
  generate(draw, tokens, tools) {
    const { context, records } = pack(tools, tokens, CHRONICLE_FRAME, chronicle(draw));
    const asked = spread(draw, records.length);
    if (!asked) return null;
    const double = draw.between(0, TURNS - 1);
    const turns = asked.map((index, turn) => {
      const entry = records[index]!;
      const two = turn === double ? friendsHome(entry) : null;
      const question = two ?? draw.choice(entry.facts).question;
      return turnOf(tools, context, question, {
        scorer: 'any',
        evidence: [entry.text, ...(two ? [entry.friend!.text] : [])],
        kind: two ? 'two facts' : 'one fact',
      });
    });
    return { context, turns };
  },
};
