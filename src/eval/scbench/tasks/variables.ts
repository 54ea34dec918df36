import type { Draw } from '../../draw.ts';
import { asksAll } from '../../tasks/conversation.ts';
import { capitals, number } from '../../tasks/values.ts';
import { NOISE } from '../../tasks/words.ts';
import { turnOf } from '../fill.ts';
import { type ScbenchTask, type ScbenchTools, TURNS } from '../types.ts';

const HEAD = 'Memorize and track the chain(s) of variable assignments hidden in the following text.\n\n';

interface Chain {
  readonly held: string;
  readonly names: readonly string[];
  /** `VAR A = 12345.`, `VAR B = VAR A.`, ... */
  readonly units: readonly string[];
}

/** Chains of assignments in noise: which variables hold a value (RULER, arXiv:2404.06654, section 3). */
export const VARIABLES: ScbenchTask = {
  name: 'vt',
  title: 'variables that hold a value',
  category: 'string',
  newTokens: 30,
  able: true,
  generate(draw, tokens, tools) {
    const chains = chainsOf(draw);
    // Chains are mixed at random; each keeps its own order.
    const turns = draw.shuffled(chains.flatMap(({ units }, c) => units.map(() => c)));
    const taken = chains.map(() => 0);
    const units = turns.map(c => chains[c]!.units[taken[c]!++]!);
    const sentences = noise(draw, tools, tokens - tools.count(HEAD + units.join(' ')) - 2);
    if (!sentences) return null;
    const context = HEAD + scatter(draw, sentences, units);
    if (tools.count(context) > tokens) return null;
    return {
      context,
      turns: draw.shuffled(chains).map(({ held, names, units: evidence }) => {
        const question = `Find all variables that are assigned the value ${held} in the text above.`;
        const lead = `The variables that are assigned the value ${held} are`;
        return turnOf(tools, context, asksAll(question, names.join(', '), names, lead), { scorer: 'share', evidence });
      }),
    };
  },
};

function chainsOf(draw: Draw): Chain[] {
  const hops = Array.from({ length: TURNS }, () => draw.between(2, 4));
  const names = draw.distinct(
    hops.reduce((sum, count) => sum + count + 1, 0),
    () => capitals(draw, 5),
  );
  const values = draw.distinct(TURNS, () => number(draw, 5, 5));
  return hops.map((count, c) => {
    const own = names.splice(0, count + 1);
    return {
      held: values[c]!,
      names: own,
      units: own.map((name, i) => `VAR ${name} = ${i === 0 ? values[c] : `VAR ${own[i - 1]}`}.`),
    };
  });
}

/** One group of sentences over and over; null where not even a few fit. */
function noise(draw: Draw, tools: ScbenchTools, room: number): string[] | null {
  const group = draw.choice(NOISE).split(/(?<=\.) /);
  const costs = group.map(sentence => tools.count(` ${sentence}`));
  const out: string[] = [];
  for (let i = 0; room >= costs[i]!; i = (i + 1) % group.length) {
    room -= costs[i]!;
    out.push(group[i]!);
  }
  return out.length >= TURNS ? out : null;
}

/** Units between the sentences, in their order, one at a random place in each equal part of the text. */
function scatter(draw: Draw, sentences: readonly string[], units: readonly string[]): string {
  const places = units.map((_, i) => Math.floor(((i + draw.next()) / units.length) * (sentences.length + 1)));
  const out: string[] = [];
  for (let i = 0, next = 0; i <= sentences.length; i++) {
    while (places[next] === i) out.push(units[next++]!);
    if (i < sentences.length) out.push(sentences[i]!);
  }
  return out.join(' ');
}
