import { KvasirError } from '../errors.ts';
import { isObject, type JsonObject } from './json.ts';
import { leadingToken } from './tokenizer-json.ts';
import type { TokenizerSpec } from './types.ts';

/**
 * Gathers a tokenizer from the files of a Hugging Face folder; absent ones are null or empty.
 * Raises `bad_model_file` where an end token is no id of the model.
 */
export function huggingFaceTokenizer(files: {
  tokenizer: JsonObject;
  tokenizerConfig: JsonObject;
  config: JsonObject;
  generationConfig: JsonObject;
  /** Content of chat_template.jinja. */
  template: string | null;
  vocab: number;
}): TokenizerSpec {
  const { tokenizer, tokenizerConfig, config, generationConfig, vocab } = files;
  const idOf = idLookup(tokenizer);
  const textOf = (id: unknown) => (typeof id === 'number' ? (idOf.texts.get(id) ?? null) : null);
  const bosToken = tokenText(tokenizerConfig.bos_token) ?? textOf(config.bos_token_id);
  const eosToken = tokenText(tokenizerConfig.eos_token) ?? textOf(firstOf(config.eos_token_id));

  const ends = new Set<number>();
  for (const [file, stated] of [
    ['generation_config.json', generationConfig.eos_token_id],
    ['config.json', config.eos_token_id],
  ] as const) {
    for (const id of Array.isArray(stated) ? stated : stated == null ? [] : [stated]) {
      if (!Number.isInteger(id) || id < 0 || id >= vocab) {
        throw new KvasirError('bad_model_file', `${file}: "eos_token_id" holds ${String(id)}, no id of a token.`, {
          field: 'eos_token_id',
          value: String(id),
          allowed: `0 to ${vocab - 1}`,
        });
      }
      ends.add(id);
    }
  }
  const eos = eosToken === null ? undefined : idOf.ids(eosToken);
  if (eos !== undefined) ends.add(eos);

  const leading = leadingToken(tokenizer);
  const flag = tokenizerConfig.add_bos_token;
  return {
    json: tokenizer,
    chatTemplate: files.template ?? statedTemplate(tokenizerConfig.chat_template),
    bosToken,
    eosToken,
    addBos: bosToken !== null && (leading === bosToken ? flag !== false : flag === true),
    endTokens: [...ends],
  };
}

function idLookup(tokenizer: JsonObject): { ids: (text: string) => number | undefined; texts: Map<number, string> } {
  const vocab = isObject(tokenizer.model) && isObject(tokenizer.model.vocab) ? tokenizer.model.vocab : {};
  const added = new Map<string, number>();
  const texts = new Map<number, string>();
  for (const token of Array.isArray(tokenizer.added_tokens) ? tokenizer.added_tokens : []) {
    if (isObject(token) && typeof token.content === 'string' && typeof token.id === 'number') {
      added.set(token.content, token.id);
      texts.set(token.id, token.content);
    }
  }
  return {
    ids(text) {
      const id = added.get(text) ?? (Object.hasOwn(vocab, text) ? vocab[text] : undefined);
      return typeof id === 'number' ? id : undefined;
    },
    texts,
  };
}

function tokenText(value: unknown): string | null {
  if (typeof value === 'string') return value;
  return isObject(value) && typeof value.content === 'string' ? value.content : null;
}

function firstOf(value: unknown): unknown {
  return Array.isArray(value) ? value[0] : value;
}

/** One template, or several by name, of which the default one is taken. */
function statedTemplate(value: unknown): string | null {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return null;
  const chosen = value.find(entry => isObject(entry) && entry.name === 'default') ?? value[0];
  return isObject(chosen) && typeof chosen.template === 'string' ? chosen.template : null;
}
