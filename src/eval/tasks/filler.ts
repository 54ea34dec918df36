import type { Draw } from '../draw.ts';
import { NOISE } from './words.ts';

/** A sentence with the white space before it; a needle may stand after one that `ends`. */
export interface Piece {
  readonly text: string;
  readonly tokens: number;
  readonly ends: boolean;
}

/** Haystacks: running text of the corpus, or sentences that mean nothing, cut to a number of tokens. */
export class Filler {
  /** Sentences of all books, one after the other. */
  readonly #pieces: readonly Piece[];
  /** Indices of pieces that begin a paragraph. */
  readonly #begins: readonly number[];
  readonly #noise: readonly (readonly Piece[])[];

  constructor(books: readonly string[], count: (text: string) => number) {
    const pieces = books.flatMap(book => split(book, count));
    this.#pieces = pieces;
    this.#begins = pieces.flatMap((piece, i) => (piece.text.startsWith('\n') ? [i] : []));
    this.#noise = NOISE.map(text =>
      split(text, count).map(piece => {
        const spaced = ` ${piece.text.trim()}`;
        return { text: spaced, tokens: count(spaced), ends: true };
      }),
    );
  }

  /** Running text that begins with a paragraph and ends with a sentence: as near below `tokens` as a few starts allow. */
  natural(draw: Draw, tokens: number): Piece[] {
    let best: Piece[] = [];
    let bestSum = -1;
    for (let tries = 0; tries < 16 && tokens - bestSum > tokens / 100 + 4; tries++) {
      const { pieces, sum } = take(this.#pieces, draw.choice(this.#begins), tokens);
      if (sum > bestSum) [best, bestSum] = [pieces, sum];
    }
    return best;
  }

  /** One group of noise sentences over and over. */
  noise(draw: Draw, tokens: number): Piece[] {
    return take(draw.choice(this.#noise), 0, tokens).pieces;
  }
}

/** Pieces from `start` on, beginning anew at the end, as many as fit. */
function take(list: readonly Piece[], start: number, tokens: number): { pieces: Piece[]; sum: number } {
  const pieces: Piece[] = [];
  let sum = 0;
  for (let i = start; ; i++) {
    const piece = list[i % list.length]!;
    if (sum + piece.tokens > tokens) break;
    sum += piece.tokens;
    pieces.push(piece);
  }
  while (pieces.length > 0 && !pieces.at(-1)!.ends) sum -= pieces.pop()!.tokens;
  return { pieces, sum };
}

/** Sentences of a text; headings (short paragraphs without a full stop) are left out. */
function split(text: string, count: (text: string) => number): Piece[] {
  const pieces: Piece[] = [];
  for (const paragraph of text.split(/\n\s*\n/)) {
    const line = paragraph.trim().replace(/\s+/g, ' ');
    if (line.length < 60 && !/[.!?]["')]*$/.test(line)) continue;
    let first = true;
    for (const [sentence] of line.matchAll(/.*?(?:[.!?]["')]*(?= |$)|$)/g)) {
      if (sentence.trim() === '') continue;
      const piece = first ? `\n\n${sentence.trim()}` : ` ${sentence.trim()}`;
      pieces.push({ text: piece, tokens: count(piece), ends: /[.!?]["')]*$/.test(piece) });
      first = false;
    }
  }
  return pieces;
}
