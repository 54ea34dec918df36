import { KvasirError } from '../errors.ts';

/**
 * The text form of a recipe:
 *   recipe = step { "+" step }
 *   step   = name [ "(" [ option { "," option } ] ")" ]
 *   option = name "=" value
 *   value  = number | true | false | word | "quoted" | "[" [ value { "," value } ] "]"
 */

export type OptionValue = number | boolean | string | readonly OptionValue[];

/** A step as it is written: neither the method nor its options are checked. */
export interface RawStep {
  readonly method: string;
  readonly [option: string]: unknown;
}

const NAME = /[A-Za-z][\w-]*/y;
const NUMBER = /[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?(?![\w.])/iy;
const WORD = /[A-Za-z][\w./:-]*/y;
const QUOTED = /"(?:[^"\\]|\\.)*"/y;
const MAX_LENGTH = 4096;
const MAX_DEPTH = 4;

/** Reads the text form; raises `invalid_recipe` saying where it stops making sense. */
export function readRecipeText(text: string, field: string): RawStep[] {
  return new Reader(text, field).recipe();
}

class Reader {
  readonly #text: string;
  readonly #field: string;
  #at = 0;

  constructor(text: string, field: string) {
    this.#text = text;
    this.#field = field;
    if (text.length > MAX_LENGTH) throw this.#error(`the recipe is longer than ${MAX_LENGTH} characters`);
  }

  recipe(): RawStep[] {
    const steps = [this.#step()];
    while (this.#take('+')) steps.push(this.#step());
    this.#skip();
    if (this.#at < this.#text.length) throw this.#expected('"+" and another method, or the end');
    return steps;
  }

  #step(): RawStep {
    const method = this.#match(NAME);
    if (method === undefined) throw this.#expected('the name of a method');
    const options = new Map<string, OptionValue>();
    if (this.#take('(') && !this.#take(')')) {
      do this.#option(method, options);
      while (this.#take(','));
      if (!this.#take(')')) throw this.#expected('"," or ")"');
    }
    return { ...Object.fromEntries(options), method };
  }

  #option(method: string, options: Map<string, OptionValue>): void {
    this.#skip();
    const start = this.#at;
    const name = this.#match(NAME);
    if (name === undefined || !this.#take('=')) {
      if (name === undefined) throw this.#expected(`an option of ${method}, written name=value`);
      throw this.#expected(`"=" after "${name}" (options are written name=value)`);
    }
    if (name === 'method' || options.has(name)) {
      this.#at = start;
      throw this.#error(
        name === 'method' ? `"method" is not an option of ${method}` : `${method}: ${name} is given twice`,
      );
    }
    options.set(name, this.#value(name, 0));
  }

  #value(name: string, depth: number): OptionValue {
    const number = this.#match(NUMBER);
    // What is no number of JavaScript stays as it is written, so that the refusal shows it.
    if (number !== undefined) return Number.isFinite(Number(number)) ? Number(number) : number;
    const quoted = this.#match(QUOTED);
    if (quoted !== undefined) return this.#unquote(quoted);
    const word = this.#match(WORD);
    if (word !== undefined) return word === 'true' ? true : word === 'false' ? false : word;
    if (depth < MAX_DEPTH && this.#take('[')) {
      const values: OptionValue[] = [];
      if (this.#take(']')) return values;
      do values.push(this.#value(name, depth + 1));
      while (this.#take(','));
      if (!this.#take(']')) throw this.#expected('"," or "]"');
      return values;
    }
    throw this.#expected(`a value of ${name}: a number, true, false, a word, "text" or [a list]`);
  }

  #unquote(quoted: string): string {
    try {
      return JSON.parse(quoted) as string;
    } catch {
      throw this.#error(`${quoted} is not a string as JSON writes it`);
    }
  }

  #skip(): void {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at++;
  }

  #take(mark: string): boolean {
    this.#skip();
    const found = this.#text[this.#at] === mark;
    if (found) this.#at++;
    return found;
  }

  #match(pattern: RegExp): string | undefined {
    this.#skip();
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  #expected(what: string): KvasirError {
    this.#skip();
    const rest = this.#text.slice(this.#at, this.#at + 12);
    return this.#error(`expected ${what}; found ${rest === '' ? 'the end' : JSON.stringify(rest)}`);
  }

  #error(reason: string): KvasirError {
    return new KvasirError('invalid_recipe', `the recipe cannot be read at character ${this.#at + 1}: ${reason}`, {
      field: this.#field,
      value: this.#text,
      allowed: 'a recipe such as snapkv(keep=0.25) + kivi(bits=2)',
    });
  }
}

/** The text form of a value, as `readRecipeText` reads it back. */
export function formatValue(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(formatValue).join(', ')}]`;
  if (typeof value !== 'string') return String(value);
  WORD.lastIndex = 0;
  const bare = WORD.exec(value)?.[0] === value && value !== 'true' && value !== 'false';
  return bare ? value : JSON.stringify(value);
}
