import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { FORMAT_NAMES } from '../cache/types.ts';
import type { EngineOptions, GenerateOptions, LoadOptions } from '../engine/types.ts';
import {
  describeRange,
  inRange,
  LOAD_CHOICES,
  LOAD_RANGES,
  NUMBER_RANGES,
  type NumberRange,
} from '../engine/validate.ts';
import { KvasirError } from '../errors.ts';
import { parseRecipe } from '../methods/recipe.ts';

/** One option of the command line: what it is called, what it accepts, and which field of the library it sets. */
export interface CliOption<Key extends string = string> {
  readonly key: Key;
  /** As commander reads it; the long flag comes first. */
  readonly flags: string;
  readonly description: string;
  readonly default?: unknown;
  /** Whether it may be given several times; the values make a list. */
  readonly list?: boolean;
  /** Absent for a switch. What it accepts, in words, and the value of a text (undefined: not accepted). */
  readonly accepts?: Accepts;
}

interface Accepts {
  readonly what: string | readonly string[];
  parse(text: string): unknown;
}

export const number = (range: NumberRange): Accepts => ({
  what: describeRange(range),
  parse(text) {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    return inRange(value, range) ? value : undefined;
  },
});
export const choice = (names: readonly string[]): Accepts => ({
  what: names,
  parse: text => (names.includes(text) ? text : undefined),
});
/** Some of the names, commas between. */
export const names = (all: readonly string[]): Accepts => ({
  what: `${all.join(', ')}, or several with commas between`,
  parse(text) {
    const given = text.split(',').map(name => name.trim());
    return given.every(name => all.includes(name)) ? [...new Set(given)] : undefined;
  },
});
export const text: Accepts = { what: 'text', parse: given => given };
export const nonEmpty: Accepts = { what: 'text that is not empty', parse: given => (given === '' ? undefined : given) };

const UNITS: Record<string, number> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };
export const bytes: Accepts = {
  what: 'bytes, or a number with K, M, G or T (powers of 1024), at least 1M',
  parse(given) {
    const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(given.trim());
    const value = match ? Math.floor(Number(match[1]) * UNITS[match[2]!.toLowerCase()]!) : 0;
    return Number.isSafeInteger(value) && value >= 2 ** 20 ? value : undefined;
  },
};
/** `token:bias`, collected into one record. */
const bias: Accepts = {
  what: 'token:bias, a token id and a number from -100 to 100',
  parse(given) {
    const match = /^(\d+):([-+]?\d+(?:\.\d+)?)$/.exec(given);
    const value = Number(match?.[2]);
    return match && Math.abs(value) <= 100 ? [Number(match[1]), value] : undefined;
  },
};

/** A recipe, or a file that holds one; what is wrong in one raises `invalid_recipe` with the reason. */
export const recipe: Accepts = {
  what: 'a recipe, or a recipe file (.json); kvasir methods lists what it is made of',
  parse(given) {
    const text = /^[^[{].*\.json$/.test(given) ? recipeFile(given) : given;
    parseRecipe(text, '--kv');
    return text;
  },
};

function recipeFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new KvasirError('invalid_request', `the recipe file cannot be read: ${(cause as Error).message}`, {
      field: '--kv',
      value: path,
      allowed: 'a file that kvasir tune has written, or a recipe',
      cause,
    });
  }
}

type Keys<T> = Exclude<keyof T, 'name' | 'path'> & string;

/** Where and how a model is loaded. */
export const LOAD_OPTIONS: readonly CliOption<Keys<LoadOptions>>[] = [
  {
    key: 'mode',
    flags: '--mode <mode>',
    description: 'numbers: fast (n-bit weights) or exact (f32)',
    accepts: choice(LOAD_CHOICES.mode),
  },
  {
    key: 'provider',
    flags: '--provider <provider>',
    description: 'dense math: native ONNX Runtime or WASM',
    accepts: choice(LOAD_CHOICES.provider),
  },
  { key: 'cache', flags: '--cache <format>', description: 'format of KV cache pages', accepts: choice(FORMAT_NAMES) },
  {
    key: 'kv',
    flags: '--kv <recipe>',
    description: "what is done to the KV cache, such as 'snapkv(keep=0.25) + kivi(bits=2)'; default: full",
    accepts: recipe,
  },
  {
    key: 'context',
    flags: '--context <tokens>',
    description: 'shorten the context',
    accepts: number(LOAD_RANGES.context),
  },
  { key: 'tile', flags: '--tile <rows>', description: 'rows of a prefill tile', accepts: number(LOAD_RANGES.tile) },
  { key: 'deterministic', flags: '--deterministic', description: 'bit-equal results whatever the batch and the tiles' },
];

/** Limits of the engine. */
export const ENGINE_OPTIONS: readonly CliOption<keyof EngineOptions & string>[] = [
  {
    key: 'threads',
    flags: '--threads <count>',
    description: "threads; default: the machine's cores, at most 8",
    accepts: number({ min: 1, max: 64, integer: true }),
  },
  {
    key: 'memoryLimit',
    flags: '--memory <bytes>',
    description: "weights, caches and work space together; default: half of the machine's memory",
    accepts: bytes,
  },
  {
    key: 'cacheLimit',
    flags: '--cache-memory <bytes>',
    description: 'KV caches; default: what fits, at most 3 GiB',
    accepts: bytes,
  },
];

/** More engine limits that only a server needs. */
export const QUEUE_OPTIONS: readonly CliOption<keyof EngineOptions & string>[] = [
  {
    key: 'maxRunning',
    flags: '--max-running <count>',
    description: 'requests that run at once; default 16',
    accepts: number({ min: 1, max: 1024, integer: true }),
  },
  {
    key: 'maxWaiting',
    flags: '--max-waiting <count>',
    description: 'requests that wait; default 256',
    accepts: number({ min: 0, max: 65_536, integer: true }),
  },
];

/** How tokens are chosen, and when to stop. */
export const SAMPLING_OPTIONS: readonly CliOption<keyof GenerateOptions & string>[] = [
  {
    key: 'maxTokens',
    flags: '--max-tokens <count>',
    description: 'longest answer',
    accepts: number(NUMBER_RANGES.maxTokens),
    default: 256,
  },
  {
    key: 'temperature',
    flags: '--temperature <number>',
    description: '0 is greedy; default 1',
    accepts: number(NUMBER_RANGES.temperature),
  },
  {
    key: 'topK',
    flags: '--top-k <count>',
    description: 'only the likeliest tokens; 0 is off',
    accepts: number(NUMBER_RANGES.topK),
  },
  {
    key: 'topP',
    flags: '--top-p <share>',
    description: 'only the likeliest tokens that make up this probability',
    accepts: number(NUMBER_RANGES.topP),
  },
  {
    key: 'minP',
    flags: '--min-p <share>',
    description: 'only tokens at least this share as likely as the best',
    accepts: number(NUMBER_RANGES.minP),
  },
  {
    key: 'repetitionPenalty',
    flags: '--repetition-penalty <factor>',
    description: 'on tokens seen before; 1 is off',
    accepts: number(NUMBER_RANGES.repetitionPenalty),
  },
  {
    key: 'frequencyPenalty',
    flags: '--frequency-penalty <number>',
    description: 'by how often the answer used a token',
    accepts: number(NUMBER_RANGES.frequencyPenalty),
  },
  {
    key: 'presencePenalty',
    flags: '--presence-penalty <number>',
    description: 'on tokens that the answer used',
    accepts: number(NUMBER_RANGES.presencePenalty),
  },
  {
    key: 'logitBias',
    flags: '--logit-bias <token:bias>',
    description: 'make a token likelier or not',
    accepts: bias,
    list: true,
  },
  {
    key: 'seed',
    flags: '--seed <number>',
    description: 'repeat the same random choices',
    accepts: number(NUMBER_RANGES.seed),
  },
  { key: 'stop', flags: '--stop <text>', description: 'end before this text', accepts: nonEmpty, list: true },
  { key: 'ignoreEnd', flags: '--ignore-end', description: 'go on at end tokens' },
  { key: 'prefill', flags: '--prefill <order>', description: 'order of prefill', accepts: choice(['token', 'layer']) },
];

export const MODEL: CliOption = {
  key: 'model',
  flags: '--model <name>',
  description: 'a name from `kvasir models`, a GGUF file or a Hugging Face folder',
  accepts: nonEmpty,
  default: 'kvasir-mini',
};
export const JSON_OUTPUT: CliOption = { key: 'json', flags: '--json', description: 'print JSON' };

/** Puts options on a command; a value that is not accepted raises `invalid_request` naming the flag and what is. */
export function addOptions(command: Command, options: readonly CliOption[]): Command {
  for (const option of options) {
    const long = option.flags.split(/[ ,]/)[0]!;
    const { accepts } = option;
    const made = new Option(option.flags, help(option));
    const { default: usual } = option;
    if (usual !== undefined) made.default(usual, Array.isArray(usual) ? usual.join(',') : undefined);
    if (accepts) {
      let given: unknown[] = [];
      made.argParser((value: string, before: unknown) => {
        const parsed = accepts.parse(value);
        if (parsed === undefined) {
          throw new KvasirError('invalid_request', `bad value of ${long}`, {
            field: long,
            value,
            allowed: accepts.what,
          });
        }
        if (!option.list) return parsed;
        if (before === undefined) given = [];
        given = [...given, parsed];
        return given;
      });
    }
    command.addOption(made);
  }
  return command;
}

function help(option: CliOption): string {
  const { accepts } = option;
  const what =
    !accepts || accepts === text || accepts === nonEmpty
      ? ''
      : typeof accepts.what === 'string'
        ? accepts.what
        : accepts.what.join(', ');
  return `${option.description}${what ? ` (${what})` : ''}${option.list ? '; may be repeated' : ''}`;
}

/** The given ones of these options, under the library's names. */
export function pick<Key extends string>(
  values: Record<string, unknown>,
  options: readonly CliOption<Key>[],
): { [K in Key]?: never } {
  const picked: Record<string, unknown> = {};
  for (const option of options) {
    const name = new Option(option.flags).attributeName();
    const value = values[name];
    if (value === undefined) continue;
    picked[option.key] = option.accepts === bias ? Object.fromEntries(value as [number, number][]) : value;
  }
  return picked as { [K in Key]?: never };
}
