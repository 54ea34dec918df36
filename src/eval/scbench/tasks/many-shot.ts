import type { Draw } from '../../draw.ts';
import { WORDS } from '../../tasks/common-words.ts';
import { asks } from '../../tasks/conversation.ts';
import { made } from '../../tasks/values.ts';
import { CATEGORIES } from '../../tasks/words.ts';
import { pack, turnOf } from '../fill.ts';
import { type ScbenchTask, TURNS } from '../types.ts';

/** A hidden rule: words, and which of `kinds` labels each gets. */
interface Rule {
  readonly kinds: number;
  readonly words: readonly string[];
  kindOf(word: string): number;
}

const SHAPES: readonly ((word: string, label: string) => string)[] = [
  (word, label) => `Input: ${word}\nLabel: ${label}\n`,
  (word, label) => `${word} -> ${label}`,
  (word, label) => `Word: ${word} | Class: ${label}`,
];

/** Made-up labels of words by a rule that only examples show; the asked words are new ones. */
export const MANY_SHOT: ScbenchTask = {
  name: 'many_shot',
  title: 'labels by a rule shown in examples',
  category: 'global',
  newTokens: 10,
  able: true,
  generate(draw, tokens, tools) {
    const training = tools.phrasing === 'training';
    const rule = training || draw.chance(0.4) ? byMeaning(draw) : draw.choice(SPELLED);
    const labels = draw.distinct(rule.kinds, () => made(draw));
    const asked = draw.sample(rule.words, TURNS);
    const known = rule.words.filter(word => !asked.includes(word));
    const shape = draw.choice(SHAPES);
    const labelOf = (word: string) => labels[rule.kindOf(word)]!;
    const frame = { open: 'Learn the labels from these examples.\n\n', separator: '\n' };
    const { context, records } = pack(tools, tokens, frame, () => {
      // Kinds are equally frequent, whatever their words are.
      const kind = draw.between(0, rule.kinds - 1);
      const word = draw.choice(known.filter(each => rule.kindOf(each) === kind));
      return { kind, text: shape(word, labels[kind]!) };
    });
    if (new Set(records.map(({ kind }) => kind)).size < rule.kinds) return null;
    const turns = asked.map(word => {
      const label = labelOf(word);
      const question = training
        ? asks(`Which label does "${word}" get?`, label, label)
        : asks(`Which label does "${word}" get: ${labels.join(', ')}?`, label, label, `The label of "${word}" is`);
      return turnOf(tools, context, question, { scorer: 'any', options: labels });
    });
    return { context, turns };
  },
};

/** Words of two to five kinds of things; those of two kinds at once are left out. */
function byMeaning(draw: Draw): Rule {
  const kinds = draw.sample(Object.values(CATEGORIES), draw.between(2, 5));
  const words = kinds.flat().filter((word, _, all) => all.indexOf(word) === all.lastIndexOf(word));
  return { kinds: kinds.length, words, kindOf: word => kinds.findIndex(kind => kind.includes(word)) };
}

const plain = WORDS.filter(word => /^[a-z]{3,10}$/.test(word));
const vowels = (word: string): number => word.match(/[aeiou]/g)?.length ?? 0;
const SPELLED: readonly Rule[] = [
  { kinds: 2, words: plain, kindOf: word => vowels(word) % 2 },
  { kinds: 2, words: plain, kindOf: word => Number(word[0]! > 'm') },
  { kinds: 3, words: plain, kindOf: word => word.length % 3 },
  { kinds: 3, words: plain, kindOf: word => ['aeiou', 'bcdfghjklmn'].findIndex(set => set.includes(word.at(-1)!)) + 1 },
];
