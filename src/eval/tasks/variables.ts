import type { Draw } from '../draw.ts';
import { asksAll } from './conversation.ts';
import { inHaystack } from './fill.ts';
import type { Instance, Task, Tools } from './types.ts';
import { capitals, number } from './values.ts';

/** Variable tracking (RULER, arXiv:2404.06654, section 3): which variables got a value, through chains of assignments. */
export const VARIABLES: readonly Task[] = [
  {
    name: 'vt-1x4',
    title: 'variable tracking, one chain, 4 hops',
    generate: (draw, length, tools) => track(draw, length, tools, 1, 4),
  },
  {
    name: 'vt-2x3',
    title: 'variable tracking, two chains, 3 hops',
    generate: (draw, length, tools) => track(draw, length, tools, 2, 3),
  },
];

function track(draw: Draw, length: number, tools: Tools, chains: number, hops: number): Instance | null {
  const names = draw.distinct((hops + 1) * chains, () => capitals(draw, 5));
  const all = Array.from({ length: chains }, (_, c) => {
    const variables = names.slice(c * (hops + 1), (c + 1) * (hops + 1));
    const held = number(draw, 5, 5);
    const units = variables.map((name, i) => ` VAR ${name} = ${i === 0 ? held : `VAR ${variables[i - 1]}`}.`);
    return { variables, held, units };
  });
  // Chains are interleaved at random; each keeps its own order.
  const turns = draw.shuffled(all.flatMap((chain, c) => chain.units.map(() => c)));
  const taken = all.map(() => 0);
  const units = turns.map(c => all[c]!.units[taken[c]!++]!);
  const asked = draw.between(0, chains - 1);
  const { held, variables } = all[asked]!;
  const question = `Find all variables that are assigned the value ${held} in the text above.`;
  return inHaystack(draw, tools, length, {
    head: 'Memorize and track the chain(s) of variable assignments hidden in the following text.',
    filler: 'noise',
    units,
    questions: [
      asksAll(question, variables.join(', '), variables, `The variables that are assigned the value ${held} are`),
    ],
    about: turns.map(c => (c === asked ? 0 : -1)),
  });
}
