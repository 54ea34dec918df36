/**
 * Merges of a SentencePiece BPE vocabulary, which stores a score for each piece and no merges.
 * A pair may merge where its joint is a piece; better scores go first, then longer left and right parts:
 * the order in which Hugging Face's converter writes them.
 *
 * @param pieces ordinary pieces only (no control, byte or user-defined tokens), in the order of their ids
 */
export function mergesFromScores(pieces: readonly { text: string; id: number; score: number }[]): [string, string][] {
  const ids = new Map(pieces.map(({ text, id }) => [text, id]));
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
    run.push(...splitsOf(text, ids));
  }
  flush();
  return merges;
}

interface Split {
  pair: [string, string];
  /** Lengths in code points. */
  left: number;
  right: number;
}

function splitsOf(text: string, ids: ReadonlyMap<string, number>): Split[] {
  const splits: Split[] = [];
  let left = 0;
  for (let at = 0; at < text.length; ) {
    at += text.codePointAt(at)! > 0xffff ? 2 : 1;
    left++;
    if (at >= text.length) break;
    const head = text.slice(0, at);
    if (!ids.has(head)) continue;
    const tail = text.slice(at);
    if (ids.has(tail)) splits.push({ pair: [head, tail], left, right: 0 });
  }
  for (const split of splits) split.right = left - split.left;
  return splits.sort((a, b) => ids.get(a.pair[0])! - ids.get(b.pair[0])! || ids.get(a.pair[1])! - ids.get(b.pair[1])!);
}
