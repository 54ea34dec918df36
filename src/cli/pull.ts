import type { Command } from 'commander';
import { ALIASES } from '../model/hub/aliases.ts';
import { cacheDir } from '../model/hub/cache-dir.node.ts';
import { hubEndpoint } from '../model/hub/http.node.ts';
import type { PullProgress } from '../model/hub/progress.ts';
import { pull } from '../model/hub/pull.node.ts';
import { formatBytes } from './format.ts';
import { type Context, printJson } from './io.ts';
import { addOptions, JSON_OUTPUT } from './options.ts';
import { Progress } from './progress.ts';

/** `kvasir pull <model>`: downloads a model into the cache folder. */
export function pullCommand(command: Command, context: Context): Command {
  addOptions(command.description('download a model'), [JSON_OUTPUT]);
  command.argument('<model>', 'an alias, owner/repo, owner/repo:file.gguf or owner/repo@revision');
  command.addHelpText(
    'after',
    `
Aliases:
${ALIASES.map(alias => `  ${alias.name}  ${alias.description} (${formatBytes(alias.bytes)}, ${alias.license})`).join('\n')}

Environment:
  KVASIR_HUB_URL, HF_ENDPOINT  the hub's address
  HF_TOKEN                     for gated and private repositories
  KVASIR_CACHE                 folder of downloads; default $XDG_CACHE_HOME/kvasir or ~/.cache/kvasir`,
  );
  return command.action(async (name: string, options: Record<string, unknown>) => {
    const { io } = context;
    const stop = new AbortController();
    const release = io.onInterrupt(() => stop.abort());
    const bar = new Progress(io, (value, total) => (total > 1 ? `${formatBytes(value)} of ${formatBytes(total)}` : ''));
    try {
      const model = await pull(name, {
        cache: cacheDir(io.env),
        endpoint: hubEndpoint(io.env),
        signal: stop.signal,
        onProgress: at => bar.update(label(at), at.received, at.total),
      });
      bar.stop();
      if (options.json)
        printJson(io, {
          name: model.name,
          path: model.path,
          kind: model.kind,
          bytes: model.bytes,
          source: model.source,
        });
      else io.stdout.write(`${model.name}: ${formatBytes(model.bytes)} from ${model.source}\n${model.path}\n`);
    } finally {
      bar.stop();
      release();
    }
  });
}

function label({ phase, what }: PullProgress): string {
  return {
    wait: `waiting for another pull of ${what}`,
    connect: `asking ${what}`,
    download: what,
    unpack: `unpacking ${what}`,
    verify: `checking ${what}`,
  }[phase];
}
