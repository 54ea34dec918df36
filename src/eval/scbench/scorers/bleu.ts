const ORDER = 4;
/** Chen and Cherry, A Systematic Comparison of Smoothing Techniques for Sentence-Level BLEU (2014), method 4. */
const K = 5;

/**
 * Sentence BLEU of white-space tokens against one reference, n-grams up to 4, smoothing 4: an order without a match counts as
 * 1 / (2^i * 5 / ln(length)) matches, i being how many such orders there were. 0 without a common token.
 */
export function sentenceBleu(written: string, reference: string): number {
  const [own, other] = [tokens(written), tokens(reference)];
  if (own.length === 0) return 0;
  let logs = 0;
  let empty = 0;
  for (let n = 1; n <= ORDER; n++) {
    const [matches, total] = overlap(own, other, n);
    if (matches === 0 && n === 1) return 0;
    // Of one token there is nothing to smooth by (ln 1 = 0): higher orders are left out.
    if (matches === 0 && own.length === 1) continue;
    const smoothed = matches > 0 ? matches : Math.log(own.length) / (2 ** ++empty * K);
    logs += Math.log(smoothed / total) / ORDER;
  }
  const brevity = own.length > other.length ? 1 : Math.exp(1 - other.length / own.length);
  return brevity * Math.exp(logs);
}

const tokens = (text: string): string[] => text.split(/\s+/).filter(token => token !== '');

/** N-grams of `own` that `other` has, each as often as it has it; and how many `own` has (at least 1). */
function overlap(own: readonly string[], other: readonly string[], n: number): [matches: number, total: number] {
  const left = counts(other, n);
  let matches = 0;
  for (const [gram, count] of counts(own, n)) matches += Math.min(count, left.get(gram) ?? 0);
  return [matches, Math.max(1, own.length - n + 1)];
}

function counts(list: readonly string[], n: number): Map<string, number> {
  const out = new Map<string, number>();
  for (let i = 0; i + n <= list.length; i++) {
    const gram = list.slice(i, i + n).join(' ');
    out.set(gram, (out.get(gram) ?? 0) + 1);
  }
  return out;
}
