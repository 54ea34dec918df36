/**
 * Holds back text that may still become a stop string, so that none of a stop string is ever shown, also when it
 * comes in pieces. The text that stands before the first stop string is passed on.
 */
export class StopMatcher {
  readonly #stops: readonly string[];
  #held = '';
  /** A stop string has appeared; nothing more is passed on. */
  stopped = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter(stop => stop !== '');
  }

  /** Text that can be shown now. */
  push(text: string): string {
    if (this.stopped) return '';
    if (this.#stops.length === 0) return text;
    const all = this.#held + text;
    let end = -1;
    for (const stop of this.#stops) {
      const at = all.indexOf(stop);
      if (at >= 0 && (end < 0 || at < end)) end = at;
    }
    if (end >= 0) {
      this.stopped = true;
      this.#held = '';
      return all.slice(0, end);
    }
    const keep = this.#undecided(all);
    this.#held = all.slice(all.length - keep);
    return all.slice(0, all.length - keep);
  }

  /** What was held back, at the end of the text. */
  flush(): string {
    const rest = this.#held;
    this.#held = '';
    return this.stopped ? '' : rest;
  }

  /** Length of the longest suffix that is a proper prefix of a stop string. */
  #undecided(text: string): number {
    let longest = 0;
    for (const stop of this.#stops)
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--)
        if (text.endsWith(stop.slice(0, length))) longest = length;
    return longest;
  }
}
