import type { Command } from 'commander';
import { ALIASES } from '../model/hub/aliases.ts';
import { formatBytes, table } from './format.ts';
import { type Context, printJson } from './io.ts';
import { addOptions, JSON_OUTPUT } from './options.ts';

/** `kvasir models`: what can be loaded now, and what can be pulled by a short name. */
export function modelsCommand(command: Command, context: Context): Command {
  addOptions(command.description('list the models that are here'), [JSON_OUTPUT]);
  return command.action(async (options: Record<string, unknown>) => {
    const models = await context.catalogue.list();
    const aliases = ALIASES.filter(alias => !models.some(model => model.name === alias.name));
    if (options.json) {
      const available = aliases.map(({ name, description, bytes, license }) => ({ name, description, bytes, license }));
      printJson(context.io, { models, available });
      return;
    }
    const { stdout } = context.io;
    const rows = models.map(model => [model.name, model.kind, formatBytes(model.bytes), model.source]);
    stdout.write(`${models.length > 0 ? table(['name', 'kind', 'size', 'source'], rows) : 'no models are here'}\n`);
    for (const alias of aliases) {
      stdout.write(
        `\nkvasir pull ${alias.name}   ${formatBytes(alias.bytes)}, ${alias.license}\n  ${alias.description}\n`,
      );
    }
  });
}
