import { KvasirError } from '../errors.ts';
import { isNumber, isString } from './gguf-config.ts';
import { type MetadataValue, required } from './gguf-header.ts';
import { type PreTokenizer, preTokenizer } from './pre-tokenizer.ts';
import { mergesFromScores } from './spm-merges.ts';
import type { TokenizerSpec } from './types.ts';

type Metadata = ReadonlyMap<string, MetadataValue>;

/** Numbers of `tokenizer.ggml.token_type`. */
export const TOKEN_TYPES = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Control tokens that end a turn in the chat formats in use; files often name only one of theirs. */
const TURN_ENDS = ['<|im_end|>', '<|eot_id|>', '<|eom_id|>', '<end_of_turn>', '<|end|>', '<|endoftext|>', '<EOT>'];

interface Vocabulary {
  readonly tokens: readonly string[];
  readonly types: readonly number[];
}

/**
 * Checks the tokenizer metadata and returns the (slower) conversion to a tokenizer.json.
 * Raises `bad_model_file` or `unsupported`, naming the key.
 *
 * @param vocab rows of the embedding, which no token id may exceed
 */
export function ggufTokenizer(metadata: Metadata, vocab: number): () => TokenizerSpec {
  const model = required(metadata, 'tokenizer.ggml.model', isString, 'a string');
  if (model !== 'gpt2' && model !== 'llama') {
    throw new KvasirError('unsupported', `Tokenizer model "${model}" is not read.`, {
      field: 'tokenizer.ggml.model',
      value: model,
      allowed: ['gpt2 (byte-level BPE)', 'llama (SentencePiece BPE)'],
    });
  }
  const tokens = required(metadata, 'tokenizer.ggml.tokens', isStrings, 'a list of strings');
  if (tokens.length === 0 || tokens.length > vocab) {
    throw new KvasirError('bad_model_file', `The tokenizer has ${tokens.length} tokens, the embedding ${vocab} rows.`, {
      field: 'tokenizer.ggml.tokens',
      value: tokens.length,
      allowed: `1 to ${vocab}`,
    });
  }
  const types = metadata.has('tokenizer.ggml.token_type')
    ? perToken(metadata, 'tokenizer.ggml.token_type', tokens.length)
    : tokens.map(() => TOKEN_TYPES.normal);
  const vocabulary: Vocabulary = { tokens, types };
  const special = (key: string) => tokenOf(metadata, `tokenizer.ggml.${key}`, tokens);
  const bos = special('bos_token_id');
  const eos = special('eos_token_id');
  const ends = new Set<number>();
  for (const key of ['eos_token_id', 'eot_token_id', 'eom_token_id']) {
    const id = special(key);
    if (id !== null) ends.add(id);
  }
  tokens.forEach((text, id) => {
    const marked = types[id] === TOKEN_TYPES.control || types[id] === TOKEN_TYPES.userDefined;
    if (marked && TURN_ENDS.includes(text)) ends.add(id);
  });
  const template = metadata.get('tokenizer.chat_template');
  const flag = (key: string, otherwise: boolean) => {
    const value = metadata.get(`tokenizer.ggml.${key}`);
    return typeof value === 'boolean' ? value : otherwise;
  };
  const shared = (addBos: boolean) => ({
    chatTemplate: typeof template === 'string' ? template : null,
    bosToken: bos === null ? null : tokens[bos],
    eosToken: eos === null ? null : tokens[eos],
    addBos: flag('add_bos_token', addBos) && bos !== null,
    endTokens: [...ends],
  });

  if (model === 'gpt2') {
    const name = metadata.get('tokenizer.ggml.pre') ?? 'default';
    const pre = preTokenizer(String(name));
    const merges = required(metadata, 'tokenizer.ggml.merges', isStrings, 'a list of strings');
    return () => ({ json: byteLevelJson(vocabulary, merges, pre), ...shared(pre.addBos) });
  }
  const scores = perToken(metadata, 'tokenizer.ggml.scores', tokens.length);
  const unknown = special('unknown_token_id') ?? types.indexOf(TOKEN_TYPES.unknown);
  const prefix = flag('add_space_prefix', true);
  return () => ({ json: sentencePieceJson(vocabulary, scores, unknown, prefix), ...shared(true) });
}

function byteLevelJson(vocabulary: Vocabulary, merges: readonly string[], pre: PreTokenizer): Record<string, unknown> {
  const splits = pre.patterns.map(Regex => ({
    type: 'Split',
    pattern: { Regex },
    behavior: 'Isolated',
    invert: false,
  }));
  return {
    version: '1.0',
    added_tokens: addedTokens(vocabulary, false),
    normalizer: pre.normalizer && { type: pre.normalizer },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [...splits, { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false }],
    },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
    model: {
      type: 'BPE',
      unk_token: null,
      byte_fallback: false,
      fuse_unk: false,
      ignore_merges: pre.ignoreMerges,
      vocab: vocabOf(vocabulary.tokens),
      merges: merges.map(pairOf),
    },
  };
}

function sentencePieceJson(
  vocabulary: Vocabulary,
  scores: readonly number[],
  unknown: number,
  spacePrefix: boolean,
): Record<string, unknown> {
  const { tokens, types } = vocabulary;
  const pieces = tokens
    .map((text, id) => ({ text, id, score: scores[id] }))
    .filter(({ id }) => types[id] === TOKEN_TYPES.normal);
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  return {
    version: '1.0',
    // Looked for in escaped text, as SentencePiece does; a prefix would be put in front of the tokens themselves too.
    added_tokens: addedTokens(vocabulary, !spacePrefix),
    normalizer: spacePrefix ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, spaces] } : spaces,
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(spacePrefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      unk_token: tokens[unknown] ?? null,
      byte_fallback: types.includes(TOKEN_TYPES.byte),
      fuse_unk: true,
      ignore_merges: false,
      vocab: vocabOf(tokens),
      merges: mergesFromScores(pieces),
    },
  };
}

function addedTokens({ tokens, types }: Vocabulary, normalized: boolean): object[] {
  const added: object[] = [];
  tokens.forEach((content, id) => {
    const special = types[id] === TOKEN_TYPES.control || types[id] === TOKEN_TYPES.unknown;
    if (content === '' || (!special && types[id] !== TOKEN_TYPES.userDefined)) return;
    const matching = { single_word: false, lstrip: false, rstrip: false, normalized: normalized && !special };
    added.push({ id, content, ...matching, special });
  });
  return added;
}

// Without a prototype, "__proto__" is a token like any other. The first of several ids of one text wins.
function vocabOf(tokens: readonly string[]): Record<string, number> {
  const vocab: Record<string, number> = Object.create(null);
  tokens.forEach((token, id) => {
    vocab[token] ??= id;
  });
  return vocab;
}

// A part may begin with a space, so the separator is looked for from the second character on.
function pairOf(merge: string): [string, string] {
  const at = merge.indexOf(' ', 1);
  if (at > 0 && at < merge.length - 1) return [merge.slice(0, at), merge.slice(at + 1)];
  throw new KvasirError('bad_model_file', `Merge ${JSON.stringify(merge)} is no pair of tokens.`, {
    field: 'tokenizer.ggml.merges',
    value: merge,
    allowed: 'two tokens with a space between',
  });
}

function tokenOf(metadata: Metadata, key: string, tokens: readonly string[]): number | null {
  const id = metadata.get(key);
  // Some writers store "none" as the largest number.
  if (id === undefined || id === 0xffffffff || id === -1) return null;
  if (isNumber(id) && Number.isInteger(id) && id >= 0 && id < tokens.length) return id;
  throw new KvasirError('bad_model_file', `Metadata key "${key}" is ${String(id)}, no id of a token.`, {
    field: key,
    value: String(id),
    allowed: `0 to ${tokens.length - 1}`,
  });
}

function perToken(metadata: Metadata, key: string, tokens: number): number[] {
  const values = required(metadata, key, isNumbers, 'a list of numbers');
  if (values.length === tokens && !values.some(Number.isNaN)) return values;
  throw new KvasirError('bad_model_file', `Metadata key "${key}" has ${values.length} entries for ${tokens} tokens.`, {
    field: key,
    value: values.length,
    allowed: `${tokens} numbers`,
  });
}

function isStrings(value: MetadataValue): value is string[] {
  return Array.isArray(value) && (value.length === 0 || typeof value[0] === 'string');
}

function isNumbers(value: MetadataValue): value is number[] {
  return Array.isArray(value) && (value.length === 0 || typeof value[0] === 'number');
}
