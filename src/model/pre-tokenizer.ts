import { KvasirError } from '../errors.ts';

/** GPT-2's split: contractions, letters, numbers, the rest, white space. */
export const GPT2_PATTERN = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const llama3Pattern = (digits: string) =>
  `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const QWEN35_PATTERN = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const TEKKEN_PATTERN = `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** How a byte-level vocabulary splits text before merging. */
export interface PreTokenizer {
  /** Applied one after the other, each splitting what the one before left. */
  readonly patterns: readonly string[];
  readonly normalizer: 'NFC' | null;
  /** A piece that is a whole token is taken without merging. */
  readonly ignoreMerges: boolean;
  /** What `add_bos_token` means where a file does not say. */
  readonly addBos: boolean;
}

const plain = { normalizer: null, ignoreMerges: false, addBos: false } as const;
const gpt2: PreTokenizer = { ...plain, patterns: [GPT2_PATTERN] };
const digitsThenGpt2: PreTokenizer = { ...plain, patterns: ['\\p{N}', GPT2_PATTERN] };
const llama3: PreTokenizer = { ...plain, patterns: [llama3Pattern('\\p{N}{1,3}')], ignoreMerges: true, addBos: true };
const qwen2: PreTokenizer = { ...plain, patterns: [llama3Pattern('\\p{N}')], normalizer: 'NFC' };

/** By the names that `tokenizer.ggml.pre` may have. */
const KNOWN: ReadonlyMap<string, PreTokenizer> = new Map([
  ['default', gpt2],
  ['gpt-2', gpt2],
  ['gpt2', gpt2],
  ['smollm', digitsThenGpt2],
  ['kvasir-mini', digitsThenGpt2],
  ['starcoder', digitsThenGpt2],
  ['llama-bpe', llama3],
  ['llama3', llama3],
  ['llama-v3', llama3],
  ['qwen2', qwen2],
  ['deepseek-r1-qwen', qwen2],
  ['qwen35', { ...plain, patterns: [QWEN35_PATTERN], normalizer: 'NFC' }],
  ['tekken', { ...plain, patterns: [TEKKEN_PATTERN], ignoreMerges: true, addBos: true }],
]);

/** Raises `unsupported` naming an unknown one. */
export function preTokenizer(name: string): PreTokenizer {
  const known = KNOWN.get(name);
  if (known !== undefined) return known;
  throw new KvasirError('unsupported', `Pre-tokenizer "${name}" (tokenizer.ggml.pre) is not known.`, {
    field: 'tokenizer.ggml.pre',
    value: name,
    allowed: [...KNOWN.keys()],
  });
}
