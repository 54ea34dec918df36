import type { LoadedModel } from '../../engine/loaded-model.ts';
import { KvasirError } from '../../errors.ts';
import { type ComparePlan, LENGTH } from './plan.ts';

/** What all recipes run on. */
export interface ComparePrompt {
  readonly tokens: readonly number[];
  /** Tokens forced after it; null: the full cache's own answer. */
  readonly forced: readonly number[] | null;
  /** Tokens of the text that are in it, forced ones included, and that the text has. */
  readonly taken: number;
  readonly whole: number;
}

/** Places of the map of kept tokens. */
export const BINS = 96;

/**
 * Tokens of the plan's text. With a question: text and question as one user message where the model has a chat template,
 * else one after the other; the text is cut, never the question. Without: the first tokens, and those that follow, forced.
 */
export function promptOf(model: LoadedModel, { text, length, steps }: ComparePlan): ComparePrompt {
  const { tokenizer } = model;
  const { name, content, question } = text;
  if (question === undefined) {
    const all = tokenizer.encode(content, { addBos: true });
    const some = all.slice(0, length + steps);
    if (some.length <= steps + 16) throw tooShort(name, some.length, steps + 17);
    return { tokens: some.slice(0, -steps), forced: some.slice(-steps), taken: some.length, whole: all.length };
  }
  const render = rendering(model, question);
  const all = tokenizer.encode(content, { addBos: false });
  let taken = all.length;
  let tokens = render(content);
  // What is cut may make other tokens at its end: only the rendered prompt says how long it is.
  while (tokens.length > length) {
    taken -= tokens.length - length;
    if (taken < 1) throw tooLong(question, length, render('').length + 1);
    tokens = render(tokenizer.decode(all.slice(0, taken)).replace(/\ufffd+$/, ''));
  }
  if (tokens.length < 16) throw tooShort(name, tokens.length, 16);
  return { tokens, forced: null, taken, whole: all.length };
}

/** The length at which the whole text is taken, or what the context holds of it; tasks get LENGTH tokens at least. */
export function wholeLength(model: LoadedModel, { text, steps, tasks }: Omit<ComparePlan, 'length'>): number {
  const { content, question } = text;
  const whole =
    question === undefined
      ? model.tokenizer.encode(content, { addBos: true }).length - steps
      : rendering(model, question)(content).length;
  return Math.min(model.info.context - steps, Math.max(tasks.length > 0 ? LENGTH : 64, whole));
}

function rendering({ tokenizer, info }: LoadedModel, question: string): (part: string) => readonly number[] {
  return part =>
    info.hasChatTemplate
      ? tokenizer.encode(
          tokenizer.renderChat([{ role: 'user', content: `${part}\n\n${question}` }], { addGenerationPrompt: true }),
          { parseSpecial: true },
        )
      : tokenizer.encode(`${part}\n\n${question}\n`, { addBos: true });
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
    field: '--text',
    value,
    allowed: `at least ${least} tokens`,
  });

const tooLong = (question: string, length: number, least: number) =>
  new KvasirError('invalid_request', `the question leaves no room for the text in ${length} tokens`, {
    field: '--question',
    value: question,
    allowed: `a shorter question, or a --length of at least ${least} tokens`,
  });
