import type { Method, Traits } from './types.ts';

/** Why two methods do not go together, as the end of a sentence that names both, and what to do about it. */
export interface Conflict {
  readonly reason: string;
  readonly fix: string;
}

/** A method in a recipe, as the rules see it. */
export type Member = Pick<Method, 'name' | 'traits'>;

/** One composition rule: looks at two methods, `first` standing before `second` in a recipe. */
export interface Rule {
  /** For the reference. */
  readonly text: string;
  conflict(first: Member, second: Member): Conflict | null;
}

export const STAGES = ['keep', 'merge', 'join', 'encode', 'retrieve'] as const satisfies readonly Traits['stage'][];

/** What a method of a stage does, after "it". */
export const STAGE_DOES: Readonly<Record<Traits['stage'], string>> = {
  keep: 'chooses which tokens stay',
  merge: 'merges tokens into one another',
  join: 'stores several layers together',
  encode: 'stores rows in a smaller format',
  retrieve: 'moves tokens out and fetches them when they are needed',
};

export const rank = (method: Member): number => STAGES.indexOf(method.traits.stage);
const packs = ({ traits }: Member): boolean => traits.stage === 'join' || traits.stage === 'encode';
const leaveOut = (first: Member, second: Member): string => `leave out ${first.name} or ${second.name}`;

export const RULES: readonly Rule[] = [
  {
    text: '`full` stands alone: it says that nothing is done to the cache.',
    conflict: (first, second) =>
      first.name === 'full' || second.name === 'full'
        ? { reason: 'full says that nothing is done to the cache', fix: 'leave out full' }
        : null,
  },
  {
    text: 'A recipe has at most one method of each stage.',
    conflict: (first, second) =>
      first.traits.stage === second.traits.stage
        ? {
            reason:
              first.name === second.name
                ? 'a method stands in a recipe once'
                : `each of them ${STAGE_DOES[first.traits.stage]}, and a recipe has one such method`,
            fix: first.name === second.name ? 'give all its options in one place' : leaveOut(first, second),
          }
        : null,
  },
  {
    text: `Stages come in the order ${STAGES.join(', ')}.`,
    conflict: (first, second) =>
      rank(first) > rank(second)
        ? {
            reason: `${first.name} ${STAGE_DOES[first.traits.stage]}, which comes after what ${second.name} does: it ${STAGE_DOES[second.traits.stage]}`,
            fix: `write ${second.name} before ${first.name}`,
          }
        : null,
  },
  {
    text: 'A method that stores layers (or layers and heads) together needs them to hold the same tokens: none before it may choose other tokens for each of them.',
    conflict(first, second) {
      const ragged = first.traits.ragged ?? 'none';
      const { needsSame } = second.traits;
      const differs = needsSame === 'all' ? ragged !== 'none' : ragged === 'layers' || ragged === 'both';
      if (!needsSame || !differs) return null;
      const who = ragged === 'both' ? 'layer and head' : ragged === 'heads' ? 'head' : 'layer';
      return {
        reason: `${first.name} keeps other tokens in each ${who}, and ${second.name} needs the same tokens in all ${needsSame === 'all' ? 'layers and heads' : 'layers'} that it stores together`,
        fix: `replace ${first.name} by a method that keeps the same tokens everywhere, such as streaming-llm, or leave out ${second.name}`,
      };
    },
  },
  {
    text: 'Nothing may follow a method that turns all of the cache into pages which cannot be changed.',
    conflict: (first, second) =>
      first.traits.seals
        ? {
            reason: `${first.name} leaves pages that no other method can change, and ${second.name} would have to`,
            fix: leaveOut(first, second),
          }
        : null,
  },
  {
    text: 'A method that reads or writes single rows cannot follow one that has packed them.',
    conflict: (first, second) =>
      second.traits.needsExact && packs(first)
        ? {
            reason: `${second.name} reads and writes single rows, and ${first.name} has packed them before`,
            fix: leaveOut(first, second),
          }
        : null,
  },
  {
    text: 'A method that drops single tokens while decoding, or reads what it drops, needs pages whose rows can go one by one: no join, encode or retrieve after it.',
    conflict(first, second) {
      const { drops, needsExact } = first.traits;
      const single = drops === 'single' || (drops !== undefined && needsExact === true);
      if (!single || !(packs(second) || second.traits.stage === 'retrieve')) return null;
      const rows = drops === 'single' ? 'drops single tokens' : 'changes single rows';
      return {
        reason: `${first.name} ${rows} at every step of decoding, and ${second.name} ${second.traits.stage === 'retrieve' ? 'moves tokens out of its reach' : 'packs tokens so that they cannot go one by one'}`,
        fix: `replace ${first.name} by a method that drops tokens at the end of the prompt, such as snapkv, or leave out ${second.name}`,
      };
    },
  },
  {
    text: 'Keys lie in the pages either before or after RoPE: methods that need one do not go with methods that need the other.',
    conflict(first, second) {
      const [before, after] = first.traits.keysUnrotated ? [first, second] : [second, first];
      return before.traits.keysUnrotated && after.traits.keysRotated
        ? {
            reason: `${before.name} needs keys before RoPE in the cache, and ${after.name} needs them after RoPE`,
            fix: leaveOut(first, second),
          }
        : null;
    },
  },
  {
    text: 'A method that gives tokens new positions does not go with one that relies on their true positions.',
    conflict(first, second) {
      const [gives, relies] = first.traits.renumbers ? [first, second] : [second, first];
      return gives.traits.renumbers && relies.traits.truePositions
        ? {
            reason: `${gives.name} gives tokens new positions, and ${relies.name} relies on those they had in the text`,
            fix: leaveOut(first, second),
          }
        : null;
    },
  },
];
