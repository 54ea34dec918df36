import type { Tokenizer } from './types.ts';

/**
 * Text of a stream of tokens, a piece at a time. A piece never ends inside a UTF-8 character:
 * the bytes of an unfinished one wait for the next token or for `flush`.
 */
export class IncrementalDetokenizer {
  private readonly tokenizer: Pick<Tokenizer, 'bytes' | 'isSpecial'>;
  private readonly special: boolean;
  private readonly decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  /** @param options special: give the text of special tokens too (left out otherwise) */
  constructor(tokenizer: Pick<Tokenizer, 'bytes' | 'isSpecial'>, options: { special?: boolean } = {}) {
    this.tokenizer = tokenizer;
    this.special = options.special ?? false;
  }

  /** The text that this token completes; empty while a character is unfinished. */
  push(id: number): string {
    if (!this.special && this.tokenizer.isSpecial(id)) return '';
    return this.decoder.decode(this.tokenizer.bytes(id), { stream: true });
  }

  /** What is left: U+FFFD where the stream ended inside a character. The next push starts afresh. */
  flush(): string {
    return this.decoder.decode();
  }
}
