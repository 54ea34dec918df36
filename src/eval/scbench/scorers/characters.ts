/** F1 of characters without white space and punctuation, in any order. */
export function characterF1(written: string, reference: string): number {
  const [own, other] = [characters(written), characters(reference)];
  if (own.length === 0 || other.length === 0) return 0;
  const left = new Map<string, number>();
  for (const character of other) left.set(character, (left.get(character) ?? 0) + 1);
  let common = 0;
  for (const character of own) {
    const count = left.get(character) ?? 0;
    if (count === 0) continue;
    left.set(character, count - 1);
    common++;
  }
  return (2 * common) / (own.length + other.length);
}

const characters = (text: string): string[] => [...text.toLowerCase().replace(/[\s\p{P}\p{S}]/gu, '')];
