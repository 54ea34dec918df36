/** Recipes of a text, one a line, each once; `#` begins a comment. They are read, not checked. */
export function recipeLines(text: string): string[] {
  const lines = text.split('\n').map(line => line.replace(/#.*$/, '').trim());
  return [...new Set(lines)].filter(line => line !== '');
}
