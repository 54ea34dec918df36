import type { Command } from 'commander';
import type { ScoreRequest } from '../engine/types.ts';
import { NUMBER_RANGES } from '../engine/validate.ts';
import { table } from './format.ts';
import { type Context, printJson } from './io.ts';
import {
  addOptions,
  type CliOption,
  ENGINE_OPTIONS,
  JSON_OUTPUT,
  LOAD_OPTIONS,
  MODEL,
  number,
  text,
} from './options.ts';
import { waiting } from './progress.ts';
import { withModel } from './with-model.ts';

const OWN: readonly CliOption[] = [
  { key: 'prompt', flags: '--prompt <text>', description: 'text before what is scored', accepts: text, default: '' },
  {
    key: 'continuation',
    flags: '--continuation <text>',
    description: 'text to score; without it, the prompt itself from its second token on',
    accepts: text,
    default: '',
  },
  {
    key: 'top',
    flags: '--top <count>',
    description: 'with --json: so many alternatives a position',
    accepts: number(NUMBER_RANGES.logprobs),
  },
];

/** `kvasir score`: how likely a text is, token by token (forced decoding). */
export function scoreCommand(command: Command, context: Context): Command {
  addOptions(command.description('say how likely a text is, token by token'), [
    MODEL,
    ...OWN,
    ...LOAD_OPTIONS,
    ...ENGINE_OPTIONS,
    JSON_OUTPUT,
  ]);
  return command.action(async (options: Record<string, unknown>) => {
    await withModel(context, options, async ({ engine, info, signal }) => {
      const request: ScoreRequest = {
        model: info.name,
        prompt: options.prompt as string,
        continuation: options.continuation as string,
        ...(options.top !== undefined && { top: options.top as number }),
      };
      const done = waiting(context.io, 'scoring');
      const result = await engine.score(request, signal).finally(done);
      const logprobs = [...result.logprobs];
      const sum = logprobs.reduce((total, value) => total + value, 0);
      const perplexity = logprobs.length > 0 ? Math.exp(-sum / logprobs.length) : 1;
      if (options.json) {
        const { tokens, top } = result;
        const best = [...result.best];
        printJson(context.io, {
          model: info.name,
          tokens,
          logprobs,
          best,
          ...(options.top !== undefined && { top }),
          sum,
          perplexity,
        });
        return;
      }
      const texts = await Promise.all(result.tokens.map(id => engine.detokenize(info.name, [id])));
      const rows = result.tokens.map((id, i) => [
        id,
        JSON.stringify(texts[i]),
        logprobs[i]!.toFixed(4),
        result.best[i] === id ? 'best' : '',
      ]);
      context.io.stdout.write(`${table(['token', 'text', 'logprob', ''], rows)}\n`);
      context.io.stdout.write(`${rows.length} tokens, sum ${sum.toFixed(4)}, perplexity ${perplexity.toFixed(3)}\n`);
    });
  });
}
