import { asks } from '../../tasks/conversation.ts';
import { number } from '../../tasks/values.ts';
import { COLORS } from '../../tasks/words.ts';
import { spread, turnOf } from '../fill.ts';
import { type ScbenchTask, TURNS } from '../types.ts';
import { articles, body, summaryTurn } from './summary.ts';

/** Turns of the second kind. */
const HALF = TURNS >> 1;

/** Two tasks over one context, in turn: key points of articles, and pass keys hidden between their lines. */
export const SUMMARY_WITH_NEEDLES: ScbenchTask = {
  name: 'summary_with_needles',
  title: 'key points of articles, and pass keys, in turn',
  category: 'multi',
  newTokens: { summary: 800, passkey: 15 },
  able: false,
  generate(draw, tokens, tools) {
    const colors = draw.sample(COLORS, draw.between(3, 5));
    const keys = draw.distinct(colors.length, () => number(draw, 5, 5));
    const needles = colors.map((color, i) => `The pass key for ${color} is ${keys[i]}.`);
    const all = articles(draw, tokens - tools.count(`\n${needles.join('\n')}`) - needles.length, tools);
    if (!all) return null;
    // One a stretch of articles, so that they lie apart.
    const hosts = needles.map((_, i) => all[Math.floor(((i + draw.next()) / needles.length) * all.length)]!);
    for (const [i, { lines }] of hosts.entries()) lines.splice(draw.between(1, lines.length), 0, needles[i]!);
    const [ofArticles, ofNeedles] = [spread(draw, all.length, TURNS - HALF), spread(draw, needles.length, HALF)];
    if (!ofArticles || !ofNeedles) return null;
    const context = body(all);
    const turns = Array.from({ length: TURNS }, (_, i) => {
      if (i % 2 === 0) return summaryTurn(tools, context, all[ofArticles[i >> 1]!]!);
      const needle = ofNeedles[i >> 1]!;
      const question = asks(`What is the pass key for ${colors[needle]}?`, needles[needle]!, keys[needle]!);
      return turnOf(tools, context, question, { scorer: 'number', evidence: [needles[needle]!], kind: 'passkey' });
    });
    return { context, turns };
  },
};
