import { KvasirError } from '../errors.ts';
import type { Tokenizer } from '../model/types.ts';
import { Draw } from './draw.ts';
import { type Encoded, encodeInstance } from './encode.ts';
import { Filler } from './tasks/filler.ts';
import type { Instance, Phrasing, Task, Tools } from './tasks/types.ts';

export interface ToolsOptions {
  readonly tokenizer: Tokenizer;
  /** Whether the model has a chat template. */
  readonly chat: boolean;
  readonly phrasing: Phrasing;
  /** Texts that haystacks are made of. */
  readonly books: readonly string[];
}

/** What task generators work with, for one tokenizer; the corpus is split and counted once, here. */
export function createTools({ tokenizer, chat, phrasing, books }: ToolsOptions): Tools {
  const count = (text: string) => tokenizer.encode(text, { addBos: false, parseSpecial: false }).length;
  const size = (instance: Instance) => encodeInstance(tokenizer, instance, chat).tokens;
  return { phrasing, filler: new Filler(books, count), count, size };
}

export interface Sample {
  readonly instance: Instance;
  readonly encoded: Encoded;
}

/** Redraws of an instance that does not fit. */
const TRIES = 20;

/**
 * Instance `index` of a task: the same for the same (task, length, seed, index), tokenizer and corpus, whatever else is run.
 * Raises `invalid_request` where the length is too short for the task.
 */
export function generate(
  task: Task,
  length: number,
  seed: number,
  index: number,
  tools: Tools,
  options: Pick<ToolsOptions, 'tokenizer' | 'chat'>,
): Sample {
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const draw = new Draw(`${task.name}/${length}/${seed}/${index}/${attempt}`);
    const instance = task.generate(draw, length, tools);
    if (instance) return { instance, encoded: encodeInstance(options.tokenizer, instance, options.chat) };
  }
  throw new KvasirError('invalid_request', `task ${task.name} does not fit ${length} tokens`, {
    field: 'lengths',
    value: length,
    allowed: 'a greater length',
  });
}
