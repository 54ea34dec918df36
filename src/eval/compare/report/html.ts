/** Text as HTML shows it, in elements and in quoted attributes. */
export function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

/** A recipe as text that may be broken where its parts begin. */
export function breakable(recipe: string): string {
  return escaped(recipe).replaceAll('(', '(<wbr>');
}

/** JSON that may stand in a script element whatever its strings hold. */
export function embedded(value: unknown): string {
  return JSON.stringify(value)
    .replaceAll('<', '\\u003c')
    .replaceAll('\u2028', '\\u2028')
    .replaceAll('\u2029', '\\u2029');
}
