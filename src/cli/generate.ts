import { open } from 'node:fs/promises';
import type { Command } from 'commander';
import type { GeneratePart, GenerateRequest, TokenLogprob, Usage } from '../engine/types.ts';
import { NUMBER_RANGES } from '../engine/validate.ts';
import { KvasirError } from '../errors.ts';
import { type Context, type Io, printJson, readAll } from './io.ts';
import {
  addOptions,
  type CliOption,
  ENGINE_OPTIONS,
  JSON_OUTPUT,
  LOAD_OPTIONS,
  MODEL,
  nonEmpty,
  number,
  pick,
  SAMPLING_OPTIONS,
  text,
} from './options.ts';
import { waiting } from './progress.ts';
import { withModel } from './with-model.ts';

const MAX_PROMPT = 16 << 20;

const MORE_SAMPLING: readonly CliOption<'logprobs' | 'n'>[] = [
  {
    key: 'logprobs',
    flags: '--logprobs <count>',
    description: 'with --json: log-probabilities and so many alternatives',
    accepts: number(NUMBER_RANGES.logprobs),
  },
  { key: 'n', flags: '--n <count>', description: 'answers to one prompt', accepts: number(NUMBER_RANGES.n) },
];

const OWN: readonly CliOption[] = [
  {
    key: 'prompt',
    flags: '--prompt <text>',
    description: 'the prompt; without it, --prompt-file or standard input',
    accepts: text,
  },
  { key: 'promptFile', flags: '--prompt-file <path>', description: 'read the prompt from a file', accepts: nonEmpty },
  { key: 'chat', flags: '--chat', description: "put the prompt as a user's message into the model's chat template" },
  { key: 'system', flags: '--system <text>', description: 'system message, with --chat', accepts: text },
];

/** `kvasir generate`: one prompt, one answer, on standard output as it comes. */
export function generateCommand(command: Command, context: Context): Command {
  addOptions(command.description('answer one prompt'), [
    MODEL,
    ...OWN,
    ...SAMPLING_OPTIONS,
    ...MORE_SAMPLING,
    ...LOAD_OPTIONS,
    ...ENGINE_OPTIONS,
    JSON_OUTPUT,
  ]);
  return command.action(async (options: Record<string, unknown>) => {
    const prompt = await readPrompt(options, context.io);
    if (options.system !== undefined && !options.chat) {
      throw new KvasirError('invalid_request', '--system needs --chat', { field: '--system', value: options.system });
    }
    if (options.logprobs !== undefined && !options.json) {
      throw new KvasirError('invalid_request', '--logprobs needs --json', {
        field: '--logprobs',
        value: options.logprobs,
      });
    }
    await withModel(context, options, async ({ engine, info, signal }) => {
      const system = options.system === undefined ? [] : [{ role: 'system', content: options.system as string }];
      const request: GenerateRequest = {
        model: info.name,
        ...(options.chat ? { messages: [...system, { role: 'user', content: prompt }] } : { text: prompt }),
        ...pick(options, SAMPLING_OPTIONS),
        ...pick(options, MORE_SAMPLING),
      };
      const several = (request.n ?? 1) > 1;
      const answers = new Answers(request.n ?? 1);
      // Where the answer streams to the same terminal the note ends with the first part, else with the last.
      const streams = !options.json && !several;
      const done = waiting(context.io, streams ? 'reading the prompt' : 'answering');
      try {
        for await (const part of engine.generate(request, signal)) {
          answers.add(part);
          if (!streams) continue;
          done();
          context.io.stdout.write(part.text);
        }
      } finally {
        done();
      }
      if (options.json) printJson(context.io, { model: info.name, ...answers.toJSON() });
      else if (several) context.io.stdout.write(answers.list.map((answer, i) => `[${i}] ${answer.text}\n`).join(''));
      else context.io.stdout.write('\n');
    });
  });
}

interface Answer {
  text: string;
  tokens: number[];
  finishReason?: string;
  logprobs?: TokenLogprob[];
}

class Answers {
  readonly list: Answer[];
  #usage: Usage | undefined;

  constructor(n: number) {
    this.list = Array.from({ length: n }, () => ({ text: '', tokens: [] }));
  }

  add(part: GeneratePart): void {
    const answer = this.list[part.index]!;
    answer.text += part.text;
    answer.tokens.push(...part.tokens);
    if (part.finishReason) answer.finishReason = part.finishReason;
    if (part.logprobs) {
      answer.logprobs ??= [];
      answer.logprobs.push(...part.logprobs);
    }
    if (part.usage) this.#usage = part.usage;
  }

  /** The first answer at the top, all of them under `answers` where there are several. */
  toJSON(): Record<string, unknown> {
    const { timings, cache, ...usage } = this.#usage ?? {};
    return { ...this.list[0], ...(this.list.length > 1 && { answers: this.list }), usage, timings, cache };
  }
}

async function readPrompt(options: Record<string, unknown>, io: Io): Promise<string> {
  if (options.prompt !== undefined && options.promptFile !== undefined) {
    throw new KvasirError('invalid_request', 'two prompts', {
      field: '--prompt-file',
      value: options.promptFile,
      allowed: 'one of --prompt, --prompt-file and standard input',
    });
  }
  if (options.prompt !== undefined) return options.prompt as string;
  if (options.promptFile === undefined && io.stdin.isTTY) {
    throw new KvasirError('invalid_request', 'no prompt', {
      field: '--prompt',
      allowed: '--prompt, --prompt-file or text on standard input',
    });
  }
  const field = options.promptFile === undefined ? 'standard input' : '--prompt-file';
  try {
    const raw =
      options.promptFile === undefined
        ? await readAll(io.stdin, MAX_PROMPT)
        : await readFileUpTo(options.promptFile as string);
    return new TextDecoder('utf-8', { fatal: true }).decode(raw);
  } catch (error) {
    throw new KvasirError('invalid_request', `the prompt cannot be read: ${(error as Error).message}`, {
      field,
      ...(options.promptFile !== undefined && { value: options.promptFile }),
      allowed: 'UTF-8 text of at most 16 MiB',
      cause: error,
    });
  }
}

async function readFileUpTo(path: string): Promise<Buffer> {
  const file = await open(path);
  try {
    return await readAll(file.createReadStream({ autoClose: false }), MAX_PROMPT);
  } finally {
    await file.close();
  }
}
