import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import type { GenerateRequest, Usage } from '../engine/types.ts';
import { KvasirError } from '../errors.ts';
import type { ChatMessage } from '../model/types.ts';
import { formatBytes } from './format.ts';
import type { Context } from './io.ts';
import {
  addOptions,
  type CliOption,
  ENGINE_OPTIONS,
  LOAD_OPTIONS,
  MODEL,
  pick,
  SAMPLING_OPTIONS,
  text,
} from './options.ts';
import { waiting } from './progress.ts';
import { errorLine } from './report.ts';
import { type Loaded, withModel } from './with-model.ts';

const OWN: readonly CliOption[] = [
  { key: 'system', flags: '--system <text>', description: 'system message', accepts: text },
];
const HELP = '/reset forgets the conversation, /stats shows figures, /exit ends; Ctrl-C stops an answer';

/** `kvasir chat`: a conversation in the terminal, or one turn a line of standard input. */
export function chatCommand(command: Command, context: Context): Command {
  addOptions(command.description('talk to a model'), [
    MODEL,
    ...OWN,
    ...SAMPLING_OPTIONS,
    ...LOAD_OPTIONS,
    ...ENGINE_OPTIONS,
  ]);
  command.addHelpText('after', `\nWhile chatting: ${HELP}.`);
  return command.action(async (options: Record<string, unknown>) => {
    await withModel(context, options, async loaded => {
      if (!loaded.info.hasChatTemplate) {
        throw new KvasirError('unsupported', 'this model has no chat template: use kvasir generate', {
          field: '--model',
          value: loaded.info.name,
        });
      }
      await new Chat(context, loaded, options).run();
    });
  });
}

class Chat {
  readonly #context: Context;
  readonly #loaded: Loaded;
  readonly #options: Record<string, unknown>;
  #messages: ChatMessage[] = [];
  #session = '';
  #answer: AbortController | undefined;
  #usage: Usage | undefined;

  constructor(context: Context, loaded: Loaded, options: Record<string, unknown>) {
    this.#context = context;
    this.#loaded = loaded;
    this.#options = options;
  }

  async run(): Promise<void> {
    const { stdin, stdout } = this.#context.io;
    const interactive = Boolean(stdin.isTTY && stdout.isTTY);
    await this.#reset();
    const lines = createInterface({
      input: stdin,
      terminal: interactive,
      prompt: interactive ? '> ' : '',
      ...(interactive && { output: stdout }),
    });
    if (interactive) stdout.write(`${this.#loaded.info.name}. ${HELP}.\n`);
    // Ctrl-C reaches the terminal as a key (readline) and a pipe as a signal; it stops the answer, else the chat.
    const interrupt = () => (this.#answer ? this.#answer.abort() : lines.close());
    let closed = false;
    lines.on('close', () => {
      closed = true;
    });
    const ask = () => {
      // Standard input may have ended while an answer was written.
      if (!closed) lines.prompt();
    };
    lines.on('SIGINT', interrupt);
    this.#loaded.signal.addEventListener('abort', interrupt);
    try {
      ask();
      for await (const line of lines) {
        if (line.trim() === '/exit') break;
        if (line.trim() !== '') await this.#take(line.trim());
        if (this.#loaded.signal.aborted) break;
        ask();
      }
    } finally {
      lines.close();
      await this.#loaded.engine.closeSession(this.#session);
    }
  }

  async #take(line: string): Promise<void> {
    const { stdout } = this.#context.io;
    if (line === '/reset') await this.#reset();
    else if (line === '/stats') stdout.write(await this.#stats());
    else if (line === '/help') stdout.write(`${HELP}\n`);
    else if (line.startsWith('/')) stdout.write(`unknown command ${line.split(' ')[0]}: ${HELP}\n`);
    else await this.#turn(line);
  }

  async #turn(content: string): Promise<void> {
    const { stdout, stderr } = this.#context.io;
    const messages = [...this.#messages, { role: 'user', content }];
    const request: GenerateRequest = {
      model: this.#loaded.info.name,
      messages,
      session: this.#session,
      ...pick(this.#options, SAMPLING_OPTIONS),
    };
    this.#answer = new AbortController();
    const done = waiting(this.#context.io, 'reading');
    let said = '';
    try {
      for await (const part of this.#loaded.engine.generate(request, this.#answer.signal)) {
        done();
        said += part.text;
        stdout.write(part.text);
        if (part.usage) this.#usage = part.usage;
      }
    } catch (thrown) {
      const error = KvasirError.from(thrown);
      if (error.code !== 'aborted') {
        // The turn did not happen: the next one goes on from before it.
        stderr.write(`${errorLine(error)}\n`);
        return;
      }
    } finally {
      done();
      this.#answer = undefined;
      stdout.write('\n');
    }
    this.#messages = [...messages, { role: 'assistant', content: said }];
  }

  async #reset(): Promise<void> {
    const { engine, info } = this.#loaded;
    if (this.#session) await engine.closeSession(this.#session);
    this.#session = await engine.openSession(info.name);
    const { system } = this.#options;
    this.#messages = system === undefined ? [] : [{ role: 'system', content: system as string }];
    this.#usage = undefined;
  }

  async #stats(): Promise<string> {
    const { cacheBytes, cachePeak, weightBytes } = await this.#loaded.engine.stats();
    const memory = `weights ${formatBytes(weightBytes)}, cache ${formatBytes(cacheBytes)} (peak ${formatBytes(cachePeak)})\n`;
    if (!this.#usage) return memory;
    const { promptTokens, cachedTokens, completionTokens, timings, cache } = this.#usage;
    const speed = `${timings.decodeTokensPerSecond.toFixed(1)} tokens/s, first token after ${timings.firstTokenMs.toFixed(0)} ms`;
    const parked = cache.parked > 0 ? `, ${formatBytes(cache.parked)} parked` : '';
    const kept =
      cache.recipe === 'full'
        ? ''
        : `${cache.recipe} kept ${Math.round(cache.kept)} tokens a layer and head${parked}\n`;
    return `last turn: ${promptTokens} prompt tokens (${cachedTokens} from the cache), ${completionTokens} answered, ${speed}\n${kept}${memory}`;
  }
}
