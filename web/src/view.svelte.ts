/** What the page shows, as its address says: the chat, the methods, or a comparison. */
export type View = { name: 'chat' } | { name: 'methods'; method: string | null } | { name: 'compare'; recipe: string };

export function viewOf(hash: string): View {
  const [name, ...rest] = hash.replace(/^#/, '').split('/');
  const tail = decode(rest.join('/'));
  if (name === 'methods') return { name, method: tail === '' ? null : tail };
  if (name === 'compare') return { name, recipe: tail };
  return { name: 'chat' };
}

export const compareHash = (recipe: string): string => `#compare/${encodeURIComponent(recipe)}`;

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Follows the address of the page. */
export class Views {
  current = $state.raw<View>(viewOf(location.hash));

  follow = (): void => {
    this.current = viewOf(location.hash);
  };
}
