import type { Method, Traits } from './types.ts';

/** Why two methods do not go together. */
export interface Conflict {
  /** The end of a sentence that begins with both names. */
  readonly reason: string;
  /** What to do, where that is not to choose another method. */
  readonly fix?: string;
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

export const rank = ({ traits }: Member): number => STAGES.indexOf(traits.stage);
const selects = ({ traits }: Member): boolean => traits.stage === 'retrieve' || traits.selects === true;
const packs = ({ traits }: Member): boolean => traits.stage === 'join' || traits.stage === 'encode';
/** Do the heads of a layer hold other entries after it? The layers? */
const partsHeads = ({ ragged }: Traits): boolean => ragged === 'heads' || ragged === 'both';
const partsLayers = ({ ragged }: Traits): boolean => ragged === 'layers' || ragged === 'both';

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
    conflict(first, second) {
      if (first.traits.stage !== second.traits.stage) return null;
      return first.name === second.name
        ? { reason: 'a method stands in a recipe once', fix: 'give all its options in one place' }
        : {
            reason: `each of them ${STAGE_DOES[first.traits.stage]}, and a recipe has one such method`,
            fix: `leave out ${first.name} or ${second.name}`,
          };
    },
  },
  {
    text: `Stages come in the order ${STAGES.join(', ')}.`,
    conflict: (first, second) =>
      rank(first) > rank(second)
        ? {
            reason: `${second.name} ${STAGE_DOES[second.traits.stage]}, which comes before what ${first.name} does: it ${STAGE_DOES[first.traits.stage]}`,
            fix: `write ${second.name} before ${first.name}`,
          }
        : null,
  },
  {
    text: 'A method that stores heads, layers or both together needs them to hold the same tokens: none before it may choose other tokens for each of them, or leave those of each head in another order.',
    conflict(first, second) {
      const { needsSame } = second.traits;
      const needsHeads = needsSame === 'all' || needsSame === 'heads';
      if (needsHeads && first.traits.reorders === 'heads') {
        return {
          reason: `${first.name} leaves tokens in another order in each head, and ${second.name} stores the same tokens of several heads together`,
        };
      }
      const heads = needsHeads && partsHeads(first.traits);
      const layers = (needsSame === 'all' || needsSame === 'layers') && partsLayers(first.traits);
      if (!heads && !layers) return null;
      const each = heads && layers ? 'layer and head' : heads ? 'head' : 'layer';
      const all = needsSame === 'all' ? 'layers and heads' : needsSame;
      return {
        reason: `${first.name} keeps other tokens in each ${each}, and ${second.name} needs the same tokens in all ${all} that it stores together`,
      };
    },
  },
  {
    text: 'Nothing may follow a method that turns all of the cache into pages which cannot be changed.',
    conflict: (first, second) =>
      first.traits.seals
        ? { reason: `${first.name} leaves pages that nothing can change, and ${second.name} would have to` }
        : null,
  },
  {
    text: 'A method that reads or writes single rows cannot follow one that has packed them.',
    conflict: (first, second) =>
      second.traits.needsExact && packs(first)
        ? { reason: `${second.name} reads and writes single rows, and ${first.name} has packed them before` }
        : null,
  },
  {
    text: 'A method that drops single tokens while decoding needs pages whose rows can go one by one: no join and no encode after it.',
    conflict: (first, second) =>
      first.traits.drops === 'single' && packs(second)
        ? {
            reason: `${first.name} drops single tokens at every step of decoding, and ${second.name} packs tokens so that they cannot go one by one`,
          }
        : null,
  },
  {
    text: 'A method that drops tokens while decoding needs them in reach: no retrieve after it.',
    conflict: (first, second) =>
      first.traits.drops && second.traits.stage === 'retrieve'
        ? {
            reason: `${first.name} drops tokens at every step of decoding, and ${second.name} has moved them out of the cache`,
          }
        : null,
  },
  {
    text: 'At most one method of a recipe chooses what each step reads.',
    conflict: (first, second) =>
      selects(first) && selects(second)
        ? {
            reason: `${first.name} and ${second.name} each choose what a step reads`,
            fix: `leave out ${first.name} or ${second.name}`,
          }
        : null,
  },
  {
    text: 'A method that writes into single entries while decoding needs them left as they are: nothing that changes entries after it.',
    conflict: (first, second) =>
      first.traits.drops && first.traits.needsExact
        ? {
            reason: `${first.name} writes into one entry at every step of decoding, and ${second.name} changes entries`,
          }
        : null,
  },
  {
    text: 'A method that keeps the same tokens in all heads, at later turns too, does not go with one that leaves other tokens in each head, or in another order.',
    conflict(first, second) {
      if (first.traits.stage !== 'keep' || partsHeads(first.traits)) return null;
      const orders = second.traits.reorders === 'heads';
      if (!partsHeads(second.traits) && !orders) return null;
      return {
        reason: `${first.name} keeps the same tokens in all heads of a layer, and ${second.name} leaves ${orders ? 'them in another order' : 'other tokens'} in each of them`,
      };
    },
  },
  {
    text: 'A method that takes over in a layer what it has chosen in another, at later turns too, does not go with one that leaves other tokens in each layer.',
    conflict: (first, second) =>
      first.traits.sameLayers && (partsLayers(second.traits) || second.traits.stage === 'retrieve')
        ? {
            reason: `${first.name} keeps in a layer what it has chosen in another, and ${second.name} leaves other tokens in each of them`,
          }
        : null,
  },
  {
    text: 'A method that drops the oldest tokens while decoding does not go with one that leaves tokens in another order.',
    conflict: (first, second) =>
      first.traits.drops === 'oldest' && second.traits.reorders
        ? {
            reason: `${first.name} drops the oldest tokens at every step of decoding, and ${second.name} leaves tokens in another order than that of the text`,
          }
        : null,
  },
  {
    text: 'A method that looks at the queries or hidden states of the prompt cannot follow one that settles layers later, when they are gone.',
    conflict: (first, second) =>
      first.traits.settlesLate && second.traits.needsPrompt
        ? {
            reason: `${second.name} looks at the queries or hidden states of the prompt, and ${first.name} settles a layer only when they are gone`,
          }
        : null,
  },
  {
    text: 'Keys lie in the pages either before or after RoPE: methods that need one do not go with methods that need the other.',
    conflict(first, second) {
      const [before, after] = first.traits.keysUnrotated ? [first, second] : [second, first];
      return before.traits.keysUnrotated && after.traits.keysRotated
        ? { reason: `${before.name} needs keys before RoPE in the cache, and ${after.name} needs them after RoPE` }
        : null;
    },
  },
  {
    text: 'A method that gives tokens new positions does not go with one that stores layers together, or relies on true positions.',
    conflict(first, second) {
      const [gives, other] = first.traits.renumbers ? [first, second] : [second, first];
      if (!gives.traits.renumbers) return null;
      const why = other.traits.truePositions
        ? 'relies on those they had in the text'
        : other.traits.stage === 'join'
          ? 'stores tokens of several layers under one position'
          : null;
      return why === null ? null : { reason: `${gives.name} gives tokens new positions, and ${other.name} ${why}` };
    },
  },
];
