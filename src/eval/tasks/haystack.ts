import type { Draw } from '../draw.ts';
import type { Piece } from './filler.ts';

/** A context and where in it the needles lie (character offsets). */
export interface Haystack {
  readonly text: string;
  readonly offsets: readonly number[];
}

/**
 * Puts units after ends of sentences, in their order: at random places, or one unit as near as can be to a depth
 * (0 begin, 1 end, by tokens). A unit before all text gets a paragraph of its own.
 */
export function hide(draw: Draw, pieces: readonly Piece[], units: readonly string[], depth?: number): Haystack {
  const ends = [0];
  const before = [0];
  for (const [i, piece] of pieces.entries()) {
    before.push(before[i]! + piece.tokens);
    if (piece.ends) ends.push(i + 1);
  }
  const wanted = (depth ?? 0) * before.at(-1)!;
  const nearest = () => ends.reduce((a, b) => (Math.abs(before[b]! - wanted) < Math.abs(before[a]! - wanted) ? b : a));
  const places = units.map(() => (depth === undefined ? draw.choice(ends) : nearest())).sort((a, b) => a - b);

  let text = '';
  const offsets: number[] = [];
  let next = 0;
  for (let place = 0; place <= pieces.length; place++) {
    for (; next < units.length && places[next] === place; next++) {
      const unit = text === '' ? units[next]!.trimStart() : units[next]!;
      offsets.push(text.length + unit.length - unit.trimStart().length);
      text += unit;
      if (place === 0) text += '\n\n';
    }
    if (place < pieces.length) {
      const piece = pieces[place]!.text;
      text += /(^|\n)$/.test(text) ? piece.trimStart() : piece;
    }
  }
  return { text, offsets };
}
