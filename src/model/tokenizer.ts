import { Tokenizer as Library } from '@huggingface/tokenizers';
import { KvasirError } from '../errors.ts';
import { chatRenderer } from './chat-template.ts';
import { SpecialSplitter } from './special-splitter.ts';
import { tokenBytes } from './token-bytes.ts';
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

  return {
    vocab,
    endTokens: new Set(spec.endTokens),
    isSpecial: id => special.has(id),
    bytes: id => bytes[id] ?? NOTHING,
    encode(text, options = {}) {
      const { addBos = spec.addBos, parseSpecial = true } = options;
      const ids: number[] = addBos && bos !== undefined ? [bos] : [];
      // Lone surrogates have no UTF-8; like any decoder, take them for U+FFFD.
      const whole = text.toWellFormed();
      (parseSpecial ? splitter.split(whole) : [whole]).forEach((section, index) => {
        if (typeof section !== 'string') {
          ids.push(section.id);
          return;
        }
        const prefixed = parts.prefixFirst && index === 0 && !/^[ ▁]/.test(section) ? ` ${section}` : section;
        // A character that the vocabulary cannot spell has no id and is left out, as the reference does.
        for (const id of library.encode(prefixed, { add_special_tokens: false }).ids) {
          if (id !== undefined) ids.push(id);
        }
      });
      return ids;
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
