import { ALSO, FAMILIES } from '../../src/methods/families.ts';
import type { Family } from '../../src/methods/types.ts';
import type { PageMethod } from './client.ts';

export type Order = 'newest' | 'oldest' | 'name';

/** Methods whose words are all in name, title, summary, claim, paper or what their family does, of one family or of all, in an order. */
export function shelf(
  methods: readonly PageMethod[],
  { words, family, order }: { readonly words: string; readonly family: string; readonly order: Order },
): PageMethod[] {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean).map(stem);
  const found = methods.filter(method => {
    const { name, title, summary, claim, paper } = method;
    const kind = [FAMILIES, ALSO].map(names => names[method.family as Family]);
    const text = [name, title, ...kind, summary, claim, paper?.title, paper?.venue, paper?.arxiv, paper?.date]
      .join(' ')
      .toLowerCase();
    return (family === '' || method.family === family) && wanted.every(word => text.includes(word));
  });
  const date = ({ paper }: PageMethod): string => paper?.date ?? '';
  if (order === 'name') return found.sort((a, b) => a.title.localeCompare(b.title));
  // What has no paper stands at the end either way.
  const sign = order === 'newest' ? -1 : 1;
  return found.sort((a, b) =>
    date(a) === '' || date(b) === ''
      ? Number(date(a) === '') - Number(date(b) === '')
      : sign * date(a).localeCompare(date(b)),
  );
}

/** `quantize`, `quantized` and `quantization` are one word to who searches. */
function stem(word: string): string {
  return word.replace(/^([a-z]{4,}?)(?:ations?|ions?|ings?|ed|es?|s)$/, '$1');
}

/** A recipe to try a method with: a quarter of the tokens where it has a budget, else its defaults. */
export function tryRecipe({ name, options }: Pick<PageMethod, 'name' | 'options'>): string {
  return options.includes('keep') ? `${name}(keep=0.25)` : name;
}
