/**
 * ROUGE-Lsum, F (Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004, section 3.2): lines are sentences; of each
 * reference sentence the union of its longest common subsequences with all written ones counts, no token more often than
 * both sides have it. Tokens are runs of Latin letters and digits, in lower case, not stemmed.
 */
export function rougeLsum(written: string, reference: string): number {
  const [own, other] = [sentences(written), sentences(reference)];
  const [m, n] = [other.flat().length, own.flat().length];
  if (m === 0 || n === 0) return 0;
  const [left, right] = [counts(other.flat()), counts(own.flat())];
  let hits = 0;
  for (const sentence of other) {
    const union = new Set(own.flatMap(each => commonIndices(sentence, each)));
    for (const [i, token] of sentence.entries()) {
      if (!union.has(i)) continue;
      const [a, b] = [left.get(token) ?? 0, right.get(token) ?? 0];
      if (a === 0 || b === 0) continue;
      left.set(token, a - 1);
      right.set(token, b - 1);
      hits++;
    }
  }
  // 2 P R / (P + R) with P = hits / n and R = hits / m.
  return (2 * hits) / (m + n);
}

const sentences = (text: string): string[][] =>
  text
    .split('\n')
    .map(line => line.toLowerCase().match(/[a-z0-9]+/g) ?? [])
    .filter(tokens => tokens.length > 0);

function counts(tokens: readonly string[]): Map<string, number> {
  const out = new Map<string, number>();
  for (const token of tokens) out.set(token, (out.get(token) ?? 0) + 1);
  return out;
}

/** Indices into `a` of one longest common subsequence with `b`. */
function commonIndices(a: readonly string[], b: readonly string[]): number[] {
  const width = b.length + 1;
  const table = new Uint32Array((a.length + 1) * width);
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++)
      table[i * width + j] =
        a[i - 1] === b[j - 1]
          ? table[(i - 1) * width + j - 1]! + 1
          : Math.max(table[(i - 1) * width + j]!, table[i * width + j - 1]!);
  const out: number[] = [];
  for (let i = a.length, j = b.length; i > 0 && j > 0; ) {
    if (a[i - 1] === b[j - 1]) {
      out.push(--i);
      j--;
    } else if (table[i * width + j - 1]! > table[(i - 1) * width + j]!) j--;
    else i--;
  }
  return out;
}
