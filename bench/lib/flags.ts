/** A whole number from 1 to 9,999,999; an error names the flag. */
export function positive(flag: string, text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text))
    throw new Error(`--${flag} is "${text}"; allowed: a whole number from 1 to 9999999`);
  return Number(text);
}

/** Numbers with commas between. */
export const positives = (flag: string, text: string): number[] => text.split(',').map(part => positive(flag, part));

/** Keeps names that contain one of the comma-separated parts; all where there is no filter. */
export function chosen<T>(items: readonly T[], nameOf: (item: T) => string, only: string | undefined): T[] {
  const parts = only?.split(',').map(part => part.trim());
  return items.filter(item => !parts || parts.some(part => nameOf(item).includes(part)));
}
