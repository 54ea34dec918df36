import type { Segment } from '../methods/types.ts';
import type { Tokenizer } from '../model/types.ts';
import { renderChat } from './chat-segments.ts';
import type { GenerateRequest } from './types.ts';

/** A prompt as the model reads it. */
export interface Prompt {
  readonly tokens: readonly number[];
  /** By token; ascending, disjoint, none empty. */
  readonly segments: readonly Segment[];
}

/** Reads a request that has been checked. A segment of text takes every token that begins within it. */
export function readPrompt(tokenizer: Tokenizer, request: GenerateRequest): Prompt {
  const { tokens, text, messages, segments = [] } = request;
  if (tokens) return { tokens, segments };
  if (!messages) return encodeSegments(tokenizer, text!, segments, true);
  const chat = renderChat((given, open) => tokenizer.renderChat(given, { addGenerationPrompt: open }), messages);
  return encodeSegments(tokenizer, chat.text, chat.segments);
}

/** @param segments by UTF-16 offsets, ascending. Those in which no token begins are left out. */
export function encodeSegments(
  tokenizer: Tokenizer,
  text: string,
  segments: readonly Segment[],
  addBos?: boolean,
): Prompt {
  const options = { parseSpecial: true, ...(addBos !== undefined && { addBos }) };
  if (segments.length === 0) return { tokens: tokenizer.encode(text, options), segments };
  const { ids, starts } = tokenizer.encodeWithStarts(text, options);
  let token = 0;
  const tokenAt = (offset: number): number => {
    while (token < starts.length && starts[token]! < offset) token++;
    return token;
  };
  const placed = segments.map(segment => ({ ...segment, from: tokenAt(segment.from), to: tokenAt(segment.to) }));
  return { tokens: ids, segments: placed.filter(({ from, to }) => from < to) };
}
