import { KvasirError } from '../errors.ts';
import { GPT2_PATTERN } from './pre-tokenizer.ts';

export type Json = Record<string, unknown>;

/** A tokenizer.json taken apart for `createTokenizer`. */
export interface TokenizerParts {
  /** For @huggingface/tokenizers: special tokens and post-processing taken out, pre-tokenizers made exact. */
  readonly library: Json;
  readonly special: readonly AddedToken[];
  readonly other: readonly AddedToken[];
  /** Put a space in front of text that begins a sequence (Metaspace with `prepend_scheme: first`). */
  readonly prefixFirst: boolean;
  readonly vocab: ReadonlyMap<string, number>;
  readonly decoding: Decoding;
}

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly special: boolean;
}

/** How a token's text stands for bytes. */
export interface Decoding {
  readonly kind: 'byte_level' | 'text';
  /** Text only: replaced everywhere in a token, as ['▁', ' ']. */
  readonly replacements: readonly (readonly [string, string])[];
  /** Text only: "<0x0A>" stands for a byte. */
  readonly byteFallback: boolean;
  /** Leading spaces that a whole text loses. */
  readonly stripSpaces: number;
}

/** Raises `bad_model_file` where the content is no tokenizer.json, `unsupported` where a part is of a kind not read. */
export function tokenizerParts(json: Json): TokenizerParts {
  const model = object(json.model, 'model');
  if (model.type !== undefined && model.type !== 'BPE') throw unsupported('model.type', model.type, ['BPE']);
  if (!Array.isArray(model.merges)) throw bad('model.merges', 'a list');
  const vocab = new Map<string, number>();
  for (const [token, id] of Object.entries(object(model.vocab, 'model.vocab'))) vocab.set(token, tokenId(id));
  const added = list(json.added_tokens ?? [], 'added_tokens').map(addedToken);
  for (const { content, id } of added) vocab.set(content, id);
  let prefixFirst = false;
  const adjust = (part: Json): Json => {
    if (part.type === 'Metaspace' && part.prepend_scheme === 'first') prefixFirst = true;
    return exactPreTokenizer(part);
  };
  const special = added.filter(token => token.special);
  const other = added.filter(token => !token.special);
  const library: Json = {
    ...json,
    model: { ...model, type: 'BPE' },
    normalizer: json.normalizer ?? null,
    pre_tokenizer: json.pre_tokenizer == null ? null : walk(object(json.pre_tokenizer, 'pre_tokenizer'), adjust),
    post_processor: null,
    decoder: null,
    added_tokens: list(json.added_tokens ?? [], 'added_tokens').filter(
      token => object(token, 'added_tokens').special !== true,
    ),
  };
  return { library, special, other, prefixFirst, vocab, decoding: decodingOf(json, model) };
}

/** Whether the post-processor puts a token before a single text, and which. */
export function leadingToken(json: Json): string | null {
  const find = (value: unknown): string | null => {
    if (typeof value !== 'object' || value === null) return null;
    const part = value as Json;
    if (part.type === 'Sequence' && Array.isArray(part.processors)) {
      return part.processors.map(find).find(token => token !== null) ?? null;
    }
    if (part.type !== 'TemplateProcessing' || !Array.isArray(part.single)) return null;
    const first = part.single[0] as { SpecialToken?: { id?: unknown } } | undefined;
    return typeof first?.SpecialToken?.id === 'string' ? first.SpecialToken.id : null;
  };
  return find(json.post_processor);
}

function walk(part: Json, change: (part: Json) => Json): Json {
  if (part.type !== 'Sequence') return change(part);
  return {
    ...part,
    pretokenizers: list(part.pretokenizers, 'pre_tokenizer').map(p => walk(object(p, 'pre_tokenizer'), change)),
  };
}

// The library's own patterns for these take JavaScript's idea of white space and digits, not Unicode's.
function exactPreTokenizer(part: Json): Json {
  const split = (Regex: string) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false });
  switch (part.type) {
    case 'ByteLevel':
      if (part.use_regex === false || part.add_prefix_space === true) return part;
      return { type: 'Sequence', pretokenizers: [split(GPT2_PATTERN), { ...part, use_regex: false }] };
    case 'Digits':
      return split(part.individual_digits === true ? '\\p{N}' : '\\p{N}+');
    case 'Metaspace': {
      const scheme = part.prepend_scheme ?? (part.add_prefix_space === false ? 'never' : 'always');
      return { ...part, prepend_scheme: scheme === 'first' ? 'never' : scheme };
    }
    case 'Split':
      return part;
    default:
      throw unsupported('pre_tokenizer', part.type, ['Sequence', 'Split', 'ByteLevel', 'Digits', 'Metaspace']);
  }
}

function decodingOf(json: Json, model: Json): Decoding {
  const decoders: Json[] = [];
  const gather = (part: Json) => {
    if (part.type === 'Sequence') for (const inner of list(part.decoders, 'decoder')) gather(object(inner, 'decoder'));
    else decoders.push(part);
  };
  gather(object(json.decoder, 'decoder'));
  if (decoders.some(part => part.type === 'ByteLevel')) {
    return { kind: 'byte_level', replacements: [], byteFallback: false, stripSpaces: 0 };
  }
  const replacements: [string, string][] = [];
  let stripSpaces = 0;
  for (const part of decoders) {
    if (part.type === 'Replace') {
      const pattern = object(part.pattern, 'decoder.pattern').String;
      if (typeof pattern !== 'string') throw unsupported('decoder', 'Replace by a pattern', ['Replace of a string']);
      replacements.push([pattern, String(part.content ?? '')]);
    } else if (part.type === 'Metaspace') {
      replacements.push([String(part.replacement ?? '▁'), ' ']);
      if (part.prepend_scheme !== 'never' && part.add_prefix_space !== false) stripSpaces = 1;
    } else if (part.type === 'Strip') {
      if (part.content !== ' ' || part.stop) throw unsupported('decoder', 'Strip', ['Strip of leading spaces']);
      stripSpaces = Number(part.start ?? 0);
    } else if (part.type !== 'ByteFallback' && part.type !== 'Fuse') {
      throw unsupported('decoder', part.type, ['ByteLevel', 'Metaspace', 'Replace', 'ByteFallback', 'Fuse', 'Strip']);
    }
  }
  return { kind: 'text', replacements, byteFallback: model.byte_fallback === true, stripSpaces };
}

function addedToken(value: unknown): AddedToken {
  const { id, content, lstrip, rstrip, special } = object(value, 'added_tokens');
  if (typeof content !== 'string' || content === '') throw bad('added_tokens', 'tokens with an id and a text');
  return { id: tokenId(id), content, lstrip: lstrip === true, rstrip: rstrip === true, special: special === true };
}

function tokenId(id: unknown): number {
  if (Number.isInteger(id) && (id as number) >= 0 && (id as number) < 1 << 24) return id as number;
  throw bad('token id', 'an integer from 0 to 2^24 - 1', id);
}

function object(value: unknown, field: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw bad(field, 'an object');
}

function list(value: unknown, field: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw bad(field, 'a list');
}

function bad(field: string, allowed: string, value?: unknown): KvasirError {
  return new KvasirError('bad_model_file', `The tokenizer's "${field}" is not ${allowed}.`, {
    field: `tokenizer.json ${field}`,
    ...(value !== undefined && { value: String(value) }),
    allowed,
  });
}

function unsupported(field: string, value: unknown, allowed: string[]): KvasirError {
  return new KvasirError('unsupported', `The tokenizer's "${field}" is ${String(value)}, which is not read.`, {
    field: `tokenizer.json ${field}`,
    value: String(value),
    allowed,
  });
}
