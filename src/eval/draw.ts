import { Random } from '../engine/random.ts';

/** Random choices from a label: the same label gives the same choices on every machine. */
export class Draw {
  readonly #random: Random;

  constructor(label: string) {
    this.#random = new Random(hash(label));
  }

  /** Uniform in [0, 1). */
  next(): number {
    return this.#random.next();
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** A whole number of [from, to], both included. */
  between(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }

  choice<T>(list: readonly T[]): T {
    return list[this.between(0, list.length - 1)]!;
  }

  shuffled<T>(list: readonly T[]): T[] {
    const out = [...list];
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.between(0, i);
      [out[i], out[j]] = [out[j]!, out[i]!];
    }
    return out;
  }

  /** `count` different members, in random order; all of them where there are fewer. */
  sample<T>(list: readonly T[], count: number): T[] {
    return this.shuffled(list).slice(0, count);
  }

  /** `count` different values of `make`; fewer where it repeats itself too often. */
  distinct(count: number, make: () => string): string[] {
    const out = new Set<string>();
    for (let tries = 0; out.size < count && tries < count * 20; tries++) out.add(make());
    return [...out];
  }
}

/** 53 bits of a text (cyrb53). */
export function hash(text: string): number {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    a = Math.imul(a ^ code, 2654435761);
    b = Math.imul(b ^ code, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  return (b >>> 0) + (a & 0x1fffff) * 2 ** 32;
}
