import { KvasirError } from '../../errors.ts';
import type { ChatMessage, Tokenizer } from '../../model/types.ts';
import type { ScbenchSession } from './types.ts';

export interface EncodedTurn {
  /** The question right after the context, as the rest of the first message. */
  readonly alone: readonly number[];
  /** The same as a further message, after an answer and its `end`; of the first turn, `alone`. */
  readonly inTurn: readonly number[];
  /** The reference answer, without its end. */
  readonly reference: readonly number[];
}

export interface EncodedSession {
  /** The shared context and what the template puts before it: a prefix of every prompt, whatever is asked. */
  readonly context: readonly number[];
  readonly turns: readonly EncodedTurn[];
  /** The token that ends an answer; null where the template has none. */
  readonly end: number | null;
}

/** Between context and question. */
const GAP = '\n\n';

/**
 * A session as token ids, in the model's chat template (`chat`), else as plain text. Context and questions are tokenized
 * apart in both modes, so that the first turn of a conversation and a first request are the same tokens. Raises `unsupported` where the
 * template does not leave the context, or earlier turns, as they are.
 */
export function encodeSession(tokenizer: Tokenizer, session: ScbenchSession, chat: boolean): EncodedSession {
  const render = chat
    ? (messages: ChatMessage[]) => tokenizer.renderChat(messages, { addGenerationPrompt: true })
    : (messages: ChatMessage[]) => messages.map(message => message.content + GAP).join('');
  const encode = (text: string) => tokenizer.encode(text, { addBos: false, parseSpecial: true });
  const first = (input: string): ChatMessage => ({ role: 'user', content: session.context + GAP + input });

  const opening = openingOf(render([first('?')]), session.context);
  const end = chat ? endToken(tokenizer) : null;
  const endText = end === null ? '' : tokenizer.decode([end], { special: true });
  const messages: ChatMessage[] = [];
  const turns: EncodedTurn[] = [];
  let written = opening;
  for (const { input, lead, reference } of session.turns) {
    const alone = render([first(input)]) + lead;
    messages.push(messages.length === 0 ? first(input) : { role: 'user', content: input });
    const text = render(messages) + lead;
    if (!alone.startsWith(opening) || !text.startsWith(written))
      throw new KvasirError('unsupported', 'the chat template changes what stands before a question', {
        field: 'model',
        allowed: 'a template that leaves earlier messages as they are',
      });
    turns.push({
      alone: encode(alone.slice(opening.length)),
      inTurn: encode(text.slice(written.length)),
      reference: tokenizer.encode(reference, { addBos: false, parseSpecial: false }),
    });
    messages.push({ role: 'assistant', content: lead + reference });
    written = text + reference + endText;
  }
  // As the engine encodes a rendered chat, and a text.
  return { context: tokenizer.encode(opening, { parseSpecial: true }), turns, end };
}

/** Tokens of the longest conversation: the context, and every question with an answer of at most so many tokens. */
export function longest({ context, turns }: EncodedSession, answers: readonly number[]): number {
  return turns.reduce((sum, { inTurn }, i) => sum + inTurn.length + answers[i]! + 1, context.length);
}

/** What stands before the question: the context with whatever the template puts before it. */
function openingOf(text: string, context: string): string {
  const at = text.indexOf(context);
  if (at < 0)
    throw new KvasirError('unsupported', 'the chat template changes the text of messages', {
      field: 'model',
      allowed: 'a template that leaves messages as they are',
    });
  return text.slice(0, at + context.length);
}

/** The token that the template puts after an assistant's message, where it is one that ends an answer. */
function endToken(tokenizer: Tokenizer): number | null {
  const user: ChatMessage = { role: 'user', content: 'a' };
  const open = tokenizer.renderChat([user], { addGenerationPrompt: true });
  const whole = tokenizer.renderChat([user, { role: 'assistant', content: 'b' }], { addGenerationPrompt: false });
  if (!whole.startsWith(`${open}b`)) return null;
  const [next] = tokenizer.encode(whole.slice(open.length + 1), { addBos: false, parseSpecial: true });
  return next !== undefined && tokenizer.endTokens.has(next) ? next : null;
}
