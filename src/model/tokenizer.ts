import { Tokenizer as Library } from '@huggingface/tokenizers';
import { KvasirError } from '../errors.ts';
import { chatRenderer } from './chat-template.ts';
import { SpecialSplitter } from './special-splitter.ts';
import { tokenBytes } from './token-bytes.ts';
import { tokenStarts } from './token-starts.ts';
import { tokenizerParts } from './tokenizer-json.ts';
import type { Tokenizer, TokenizerSpec } from './types.ts';

const NOTHING = new Uint8Array(0);

/**
 * A tokenizer out of its tokenizer.json.
 * Text is split and merged by @huggingface/tokenizers; special tokens, bytes and decoding are handled here, so that
 * special tokens can be left unparsed and bytes are exact.
 *
 * Raises `bad_model_file` or `unsupported` where the content cannot be used.
 */
export function createTokenizer(spec: TokenizerSpec): Tokenizer {
  const parts = tokenizerParts(spec.json);
  const library = createLibrary(parts.library);
  const splitter = new SpecialSplitter(parts.special);
  const special = new Set(parts.special.map(token => token.id));
  const bos = spec.bosToken === null ? undefined : parts.vocab.get(spec.bosToken);
  const render = chatRenderer(spec);

  let vocab = 0;
  for (const id of parts.vocab.values()) vocab = Math.max(vocab, id + 1);
  const bytes: Uint8Array[] = new Array(vocab).fill(NOTHING);
  for (const [token, id] of parts.vocab) bytes[id] = tokenBytes(token, parts.decoding);
  for (const { id, content } of [...parts.special, ...parts.other]) bytes[id] = new TextEncoder().encode(content);

  const leading = (addBos = spec.addBos): number[] => (addBos && bos !== undefined ? [bos] : []);
  function* sections(text: string, parseSpecial = true): Generator<{ from: number; text: string; ids: number[] }> {
    // Lone surrogates have no UTF-8; like any decoder, take them for U+FFFD.
    const whole = text.toWellFormed();
    let end = 0;
    for (const [index, section] of (parseSpecial ? splitter.split(whole) : [whole]).entries()) {
      const content = typeof section === 'string' ? section : section.content;
      const from = whole.indexOf(content, end);
      end = from + content.length;
      if (typeof section !== 'string') {
        yield { from, text: content, ids: [section.id] };
        continue;
      }
      const prefixed = parts.prefixFirst && index === 0 && !/^[ ▁]/.test(section) ? ` ${section}` : section;
      const { ids } = library.encode(prefixed, { add_special_tokens: false });
      // A character that the vocabulary cannot spell has no id and is left out, as the reference does.
      yield { from, text: section, ids: ids.filter((id: number | undefined) => id !== undefined) };
    }
  }

  return {
    vocab,
    endTokens: new Set(spec.endTokens),
    isSpecial: id => special.has(id),
    bytes: id => bytes[id] ?? NOTHING,
    encode(text, options = {}) {
      const ids = leading(options.addBos);
      for (const section of sections(text, options.parseSpecial)) for (const id of section.ids) ids.push(id);
      return ids;
    },
    encodeWithStarts(text, options = {}) {
      const ids = leading(options.addBos);
      const starts = ids.map(() => -1);
      for (const section of sections(text, options.parseSpecial)) {
        for (const id of section.ids) ids.push(id);
        const pieces = section.ids.map(id => bytes[id] ?? NOTHING);
        for (const start of tokenStarts(section.text, pieces)) starts.push(section.from + start);
      }
      return { ids, starts };
    },
    decode(ids, options = {}) {
      const kept = options.special ? ids : ids.filter(id => !special.has(id));
      const parted = kept.map(id => bytes[id] ?? NOTHING);
      const joined = new Uint8Array(parted.reduce((sum, part) => sum + part.length, 0));
      let at = 0;
      for (const part of parted) {
        joined.set(part, at);
        at += part.length;
      }
      let text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(joined);
      for (let i = 0; i < parts.decoding.stripSpaces && text.startsWith(' '); i++) text = text.slice(1);
      return text;
    },
    renderChat: (messages, options = {}) => render(messages, options.addGenerationPrompt ?? true),
  };
}

function createLibrary(json: Record<string, unknown>): Library {
  try {
    return new Library(json, { clean_up_tokenization_spaces: false });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new KvasirError('bad_model_file', `The tokenizer cannot be built: ${reason}`, {
      field: 'tokenizer.json',
      cause,
    });
  }
}
