import type { LoadedModel } from '../../engine/loaded-model.ts';
import { KvasirError } from '../../errors.ts';
import type { ComparePlan } from './plan.ts';

/** What all recipes run on. */
export interface ComparePrompt {
  readonly tokens: readonly number[];
  /** Tokens forced after it; null: the full cache's own answer. */
  readonly forced: readonly number[] | null;
}

/** Places of the map of kept tokens. */
export const BINS = 96;

/**
 * Tokens of the plan's text. With a question: text and question as one user message where the model has a chat template,
 * else one after the other; the text is cut, never the question. Without: the first tokens, and those that follow, forced.
 */
export function promptOf({ tokenizer, info }: LoadedModel, { text, length, steps }: ComparePlan): ComparePrompt {
  const { content, question } = text;
  if (question === undefined) {
    const all = tokenizer.encode(content, { addBos: true }).slice(0, length + steps);
    if (all.length <= steps + 16) throw tooShort(text.name, all.length, steps + 17);
    return { tokens: all.slice(0, -steps), forced: all.slice(-steps) };
  }
  const render = (part: string): readonly number[] =>
    info.hasChatTemplate
      ? tokenizer.encode(
          tokenizer.renderChat([{ role: 'user', content: `${part}\n\n${question}` }], { addGenerationPrompt: true }),
          { parseSpecial: true },
        )
      : tokenizer.encode(`${part}\n\n${question}\n`, { addBos: true });
  const around = render('').length;
  const inside = tokenizer.encode(content, { addBos: false }).slice(0, Math.max(1, length - around));
  const tokens = render(tokenizer.decode(inside));
  if (tokens.length < 16) throw tooShort(text.name, tokens.length, 16);
  return { tokens, forced: null };
}

/** The text of each bin of a prompt, for a reader. */
export function binTexts({ tokenizer }: LoadedModel, tokens: readonly number[]): string[] {
  return Array.from({ length: BINS }, (_, bin) => {
    const [from, to] = [bin, bin + 1].map(edge => Math.round((edge * tokens.length) / BINS)) as [number, number];
    return tokenizer.decode(tokens.slice(from, Math.min(to, from + 24)));
  });
}

const tooShort = (name: string, value: number, least: number) =>
  new KvasirError('invalid_request', `${name} is too short: ${value} tokens.`, {
    field: 'text',
    value,
    allowed: `at least ${least} tokens`,
  });
