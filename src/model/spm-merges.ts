/**
 * Merges of a SentencePiece BPE vocabulary, which stores a score for each piece and no merges.
 * A pair may merge where its joint is a piece; better scores go first, then longer left and right parts:
 * the order in which Hugging Face's converter writes them.
 *
 * @param pieces ordinary pieces only (no control, byte or user-defined tokens), in the order of their ids
 */
export function mergesFromScores(pieces: readonly Piece[]): [string, string][] {
  const byText = new Map(pieces.map(piece => [piece.text, piece]));
  const merges: [string, string][] = [];
  let run: Split[] = [];
  let runScore = Number.NaN;
  const flush = () => {
    run.sort((a, b) => b.left - a.left || b.right - a.right);
    for (const split of run) merges.push(split.pair);
    run = [];
  };
  // A stable sort: pieces of one score stay in the order of their ids.
  for (const { text, score } of [...pieces].sort((a, b) => b.score - a.score)) {
    if (score !== runScore) flush();
    runScore = score;
    for (const split of splitsOf(text, byText)) run.push(split);
  }
  flush();
  return merges;
}

interface Piece {
  readonly text: string;
  readonly id: number;
  readonly score: number;
}

interface Split {
  pair: [string, string];
  /** Lengths in code points. */
  left: number;
  right: number;
  /** Ids of the parts. */
  ids: [number, number];
}

function splitsOf(text: string, byText: ReadonlyMap<string, Piece>): Split[] {
  const splits: Split[] = [];
  let left = 0;
  for (let at = 0; at < text.length; ) {
    at += text.codePointAt(at)! > 0xffff ? 2 : 1;
    left++;
    if (at >= text.length) break;
    const head = byText.get(text.slice(0, at));
    const tail = head && byText.get(text.slice(at));
    // The vocabulary's own strings: half a million pairs of copies would take more room than it does.
    if (tail) splits.push({ pair: [head.text, tail.text], left, right: 0, ids: [head.id, tail.id] });
  }
  for (const split of splits) split.right = left - split.left;
  return splits.length < 2 ? splits : splits.sort((a, b) => a.ids[0] - b.ids[0] || a.ids[1] - b.ids[1]);
}
