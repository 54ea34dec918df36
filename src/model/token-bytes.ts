import type { Decoding } from './tokenizer-json.ts';

const encoder = new TextEncoder();

/** Byte that a character of a byte-level vocabulary stands for (GPT-2's table). */
export const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = buildTable();

// Printable bytes stand for themselves; the others, in order, for U+0100 and on.
function buildTable(): Map<string, number> {
  const table = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte > 32 && byte < 127) || (byte > 160 && byte < 256 && byte !== 173);
    table.set(String.fromCharCode(printable ? byte : next++), byte);
  }
  return table;
}

/** Raw bytes of an ordinary token. */
export function tokenBytes(token: string, decoding: Decoding): Uint8Array {
  if (decoding.kind === 'byte_level') {
    const bytes = new Uint8Array(token.length);
    for (let i = 0; i < token.length; i++) {
      const byte = BYTE_OF_CHARACTER.get(token[i]);
      if (byte === undefined) return encoder.encode(token);
      bytes[i] = byte;
    }
    return bytes;
  }
  if (decoding.byteFallback && /^<0x[0-9A-Fa-f]{2}>$/.test(token)) {
    return Uint8Array.of(Number.parseInt(token.slice(3, 5), 16));
  }
  let text = token;
  for (const [from, to] of decoding.replacements) text = text.replaceAll(from, to);
  return encoder.encode(text);
}
