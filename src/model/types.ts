/** A model on disk, seen the same way whatever file format it came from. */

export type Architecture = 'llama' | 'qwen2' | 'qwen3' | 'gemma3';

/** One table of rotary angles: position p turns channel pair i by p * inverseFrequencies[i]. */
export interface RopeTable {
  /** Radians per position, float64, length rotaryChannels / 2; scaling (linear, Llama 3, YaRN) already applied. */
  readonly inverseFrequencies: Float64Array;
  /** YaRN's attention factor, applied to both q and k (1 elsewhere). */
  readonly magnitude: number;
}

export interface ModelConfig {
  readonly architecture: Architecture;
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediate: number;
  readonly vocab: number;
  /** Longest sequence, tokens. */
  readonly context: number;
  readonly normEpsilon: number;
  readonly activation: 'silu' | 'gelu_tanh';
  /** Softmax scale, usually 1 / sqrt(headDim). */
  readonly attentionScale: number;
  /** Factor on token embeddings (Gemma: sqrt(hidden)); 1 elsewhere. */
  readonly embeddingScale: number;
  readonly qkvBias: boolean;
  readonly qkNorm: boolean;
  /** Gemma 3: norms after attention and after the MLP too. */
  readonly postNorms: boolean;
  readonly tiedEmbeddings: boolean;
  /** Distinct rotary tables; layerRope[l] says which one layer l uses. Rotation pairs channel i with i + headDim / 2. */
  readonly ropes: readonly RopeTable[];
  readonly layerRope: readonly number[];
  /** Per layer: how many positions back a query sees, itself included; 0 means all. */
  readonly layerWindow: readonly number[];
}

/** GGUF's names; Hugging Face tensors are F32, F16 or BF16. */
export const TENSOR_TYPES = [
  'F32', 'F16', 'BF16', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'Q4_K', 'Q5_K', 'Q6_K',
] as const; // biome-ignore format: one line reads as the list it is
export type TensorType = (typeof TENSOR_TYPES)[number];

/** A matrix [rows = outputs, columns = inputs] stored row by row, or a vector [n] (rows = 1). */
export interface TensorInfo {
  readonly name: string;
  readonly type: TensorType;
  readonly rows: number;
  readonly columns: number;
  readonly byteLength: number;
}

/**
 * Canonical tensor names, the same for every architecture:
 *   embed  norm  lm_head (absent when tied)
 *   layers.{l}. attn_norm q k v o  q_bias k_bias v_bias  q_norm k_norm  post_attn_norm  mlp_norm gate up down  post_mlp_norm
 * Norm weights are the factor itself (Gemma's +1 included). q and k rows pair channel i with i + headDim / 2
 * (GGUF's interleaved llama rows are un-permuted on read).
 */
export interface ModelFile {
  readonly config: ModelConfig;
  readonly tokenizer: TokenizerSpec;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Identifies weights and tokenizer: SHA-256 over headers, sizes and sampled bytes; hex. */
  readonly fingerprint: string;
  /** Where it came from, for people. */
  readonly source: string;
  /** Raw blocks of rows [from, to) of a tensor, canonical row order. */
  read(name: string, from?: number, to?: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** All that a Tokenizer is built from. */
export interface TokenizerSpec {
  /** Content of a tokenizer.json (read, or converted from GGUF metadata). */
  readonly json: Record<string, unknown>;
  /** Jinja source, or null where the model has none. */
  readonly chatTemplate: string | null;
  readonly bosToken: string | null;
  readonly eosToken: string | null;
  /** Put the BOS token before text that is not a rendered chat. */
  readonly addBos: boolean;
  /** Every token that ends a generation (eos, eot, generation config). */
  readonly endTokens: readonly number[];
}

export interface ChatMessage {
  role: 'system' | 'user' | 'assistant' | (string & {});
  content: string;
}

export interface Tokenizer {
  readonly vocab: number;
  readonly endTokens: ReadonlySet<number>;
  encode(text: string, options?: { addBos?: boolean; parseSpecial?: boolean }): number[];
  /**
   * The same ids, and where in the text (UTF-16 offset) each token begins, ascending: -1 for a BOS token that was put before it,
   * the offset of the character for a token that begins within one.
   */
  encodeWithStarts(
    text: string,
    options?: { addBos?: boolean; parseSpecial?: boolean },
  ): { readonly ids: number[]; readonly starts: number[] };
  /** Whole text of ids; special tokens left out unless asked for. */
  decode(ids: readonly number[], options?: { special?: boolean }): string;
  /** Raw bytes of one token (a special token gives its text's bytes). Concatenated bytes are the UTF-8 of the text. */
  bytes(id: number): Uint8Array;
  /** Whether `decode` leaves this token out unless asked for it (turn marks, BOS, EOS). */
  isSpecial(id: number): boolean;
  /** Renders a chat. Raises `unsupported` where the model has no template. */
  renderChat(messages: readonly ChatMessage[], options?: { addGenerationPrompt?: boolean }): string;
}

/** Random access to bytes: a file, a buffer, a Blob. Reads past the end raise `bad_model_file`. */
export interface ByteSource {
  readonly size: number;
  readonly name: string;
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}
