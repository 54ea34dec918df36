import type { AddedToken } from './tokenizer-json.ts';

/** A stretch of text, or a special token that stood in it. */
export type Section = string | AddedToken;

/** Cuts text at special tokens: the leftmost, and of those the longest, wins. */
export class SpecialSplitter {
  private readonly byText: ReadonlyMap<string, AddedToken>;
  private readonly firstUnits: ReadonlySet<number>;
  /** Lengths in UTF-16 units that occur, longest first. */
  private readonly lengths: readonly number[];

  constructor(tokens: readonly AddedToken[]) {
    this.byText = new Map(tokens.map(token => [token.content, token]));
    this.firstUnits = new Set(tokens.map(token => token.content.charCodeAt(0)));
    this.lengths = [...new Set(tokens.map(token => token.content.length))].sort((a, b) => b - a);
  }

  split(text: string): Section[] {
    const sections: Section[] = [];
    let start = 0;
    for (let at = 0; at < text.length; ) {
      const token = this.firstUnits.has(text.charCodeAt(at)) ? this.tokenAt(text, at) : undefined;
      if (token === undefined) {
        at++;
        continue;
      }
      const before = text.slice(start, at);
      sections.push(token.lstrip ? before.trimEnd() : before, token);
      at += token.content.length;
      if (token.rstrip) while (at < text.length && text[at].trim() === '') at++;
      start = at;
    }
    sections.push(text.slice(start));
    return sections.filter(section => section !== '');
  }

  private tokenAt(text: string, at: number): AddedToken | undefined {
    for (const length of this.lengths) {
      const token = this.byText.get(text.slice(at, at + length));
      if (token !== undefined) return token;
    }
    return undefined;
  }
}
