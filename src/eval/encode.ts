import { KvasirError } from '../errors.ts';
import type { ChatMessage, Tokenizer } from '../model/types.ts';
import type { Instance } from './tasks/types.ts';

export interface EncodedTurn {
  /** All tokens since the last answer (the first turn: since the beginning). */
  readonly prompt: readonly number[];
  /** What must be written, the end token included where the answer must end. */
  readonly answer: readonly number[];
}

/** Tokens [from, to) of the first prompt that hold a needle. */
export interface NeedleRange {
  readonly from: number;
  readonly to: number;
  readonly turn: number;
}

export interface Encoded {
  readonly turns: readonly EncodedTurn[];
  readonly needles: readonly NeedleRange[];
  /** Of all turns together. */
  readonly tokens: number;
}

/**
 * An instance as token ids: its conversation in the model's chat template (`chat`), else as plain text. Earlier turns hold
 * the right answers. Raises `unsupported` where the template renders earlier turns anew, so that a later turn does not
 * begin with what an earlier one ended with.
 */
export function encodeInstance(tokenizer: Tokenizer, instance: Instance, chat: boolean): Encoded {
  const render = chat
    ? (messages: ChatMessage[]) => tokenizer.renderChat(messages, { addGenerationPrompt: true })
    : plain;
  const messages: ChatMessage[] = instance.system === null ? [] : [{ role: 'system', content: instance.system }];
  const turns: EncodedTurn[] = [];
  let written = '';
  let first = '';
  let skipEnd = false;
  for (const { question, lead, answer } of instance.turns) {
    messages.push({ role: 'user', content: question });
    const text = render(messages) + lead;
    if (!text.startsWith(written))
      throw new KvasirError('unsupported', 'the chat template changes earlier turns: ask one question a conversation', {
        field: 'phrasing',
        allowed: 'natural',
      });
    const fresh = text.slice(written.length);
    // As the engine encodes a rendered chat, and a text.
    const prompt =
      turns.length === 0
        ? tokenizer.encode(text, { parseSpecial: true })
        : tokenizer.encode(fresh, { addBos: false, parseSpecial: true });
    if (skipEnd) prompt.shift();
    if (turns.length === 0) first = text;
    const tokens = tokenizer.encode(answer, { addBos: false, parseSpecial: false });
    messages.push({ role: 'assistant', content: lead + answer });
    const end = instance.ends && chat ? endToken(tokenizer, messages, text + answer) : undefined;
    skipEnd = end !== undefined;
    turns.push({ prompt, answer: end === undefined ? tokens : [...tokens, end] });
    written = text + answer;
  }
  return {
    turns,
    needles: locate(tokenizer, turns[0]!.prompt, first, instance),
    tokens: turns.reduce((sum, turn) => sum + turn.prompt.length + turn.answer.length, 0),
  };
}

const plain = (messages: readonly ChatMessage[]): string => messages.map(message => `${message.content}\n\n`).join('');

/** The token that the template puts after the assistant's message, where it is one that ends an answer. */
function endToken(tokenizer: Tokenizer, messages: ChatMessage[], written: string): number | undefined {
  const whole = tokenizer.renderChat(messages, { addGenerationPrompt: false });
  if (!whole.startsWith(written)) return undefined;
  const [next] = tokenizer.encode(whole.slice(written.length), { addBos: false, parseSpecial: true });
  return next !== undefined && tokenizer.endTokens.has(next) ? next : undefined;
}

/** Needles by tokens: from the bytes that each token stands for. */
function locate(tokenizer: Tokenizer, prompt: readonly number[], text: string, instance: Instance): NeedleRange[] {
  const utf8 = new TextEncoder();
  const ends: number[] = [];
  let bytes = 0;
  for (const id of prompt) {
    bytes += tokenizer.bytes(id).length;
    ends.push(bytes);
  }
  // A BOS token or a space that the tokenizer put before the text.
  const extra = bytes - utf8.encode(text).length;
  const question = text.indexOf(instance.turns[0]!.question);
  return instance.needles.map(needle => {
    const begin = extra + utf8.encode(text.slice(0, question + needle.at)).length;
    const end = begin + utf8.encode(needle.text).length;
    const from = ends.findIndex(at => at > begin);
    return { from, to: ends.findIndex(at => at >= end) + 1, turn: needle.turn };
  });
}
