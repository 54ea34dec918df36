const encoder = new TextEncoder();
const SPACE = 0x20;

/** Bytes within which the next token is looked for where the vocabulary could not spell what lies between. */
const REACH = 1024;

/**
 * Where each token of a text begins: UTF-16 offsets, ascending; the offset of its character where a token begins within one.
 * @param tokens bytes of each token, in order. Together they are the UTF-8 of the text or of its NFC, maybe after a space that
 * the tokenizer put before it, less what the vocabulary cannot spell.
 */
export function tokenStarts(text: string, tokens: readonly Uint8Array[]): number[] {
  const added = tokens[0]?.[0] === SPACE && !text.startsWith(' ') ? 1 : 0;
  const total = tokens.reduce((sum, token) => sum + token.length, -added);
  let bytes = encoder.encode(text);
  let pieces: Iterable<string> = text;
  const composed = total !== bytes.length && text.normalize('NFC') !== text;
  if (composed) {
    bytes = encoder.encode(text.normalize('NFC'));
    // What composes under NFC: a character with the marks after it, and the letters of a Hangul syllable.
    pieces = text.match(/[\s\S][\p{M}\u1160-\u11ff]*/gu) ?? [];
  }
  const offsets = byteOffsets(pieces, bytes.length, composed);
  const exact = total === bytes.length;
  let at = 0;
  return tokens.map((token, i) => {
    const wanted = i === 0 ? token.subarray(added) : token;
    const found = exact ? at : find(bytes, wanted, at);
    const start = offsets[found < 0 ? at : found]!;
    if (found >= 0) at = found + wanted.length;
    return start;
  });
}

/** By byte of the UTF-8, one more for the end: the UTF-16 offset of its piece. */
function byteOffsets(pieces: Iterable<string>, length: number, composed: boolean): Int32Array {
  const offsets = new Int32Array(length + 1);
  let byte = 0;
  let unit = 0;
  for (const piece of pieces) {
    const end = byte + utf8Length(composed ? piece.normalize('NFC') : piece);
    offsets.fill(unit, byte, end);
    byte = end;
    unit += piece.length;
  }
  offsets[length] = unit;
  return offsets;
}

function utf8Length(piece: string): number {
  let length = 0;
  for (const character of piece) {
    const point = character.codePointAt(0)!;
    length += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return length;
}

function find(bytes: Uint8Array, token: Uint8Array, from: number): number {
  const last = Math.min(bytes.length - token.length, from + REACH);
  for (let at = from; at <= last; at++) if (token.every((byte, i) => bytes[at + i] === byte)) return at;
  return -1;
}
