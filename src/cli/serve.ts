import type { Command } from 'commander';
import type { EngineApi, EngineOptions } from '../engine/types.ts';
import type { Catalogue } from '../model/catalogue.ts';
import { resolveModel } from '../model/hub/catalogue.node.ts';
import { type Context, printJson } from './io.ts';
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
  QUEUE_OPTIONS,
} from './options.ts';
import { Progress } from './progress.ts';

const OWN: readonly CliOption[] = [
  {
    key: 'host',
    flags: '--host <address>',
    description: 'address to bind; any but loopback needs an API key',
    accepts: nonEmpty,
    default: '127.0.0.1',
  },
  {
    key: 'port',
    flags: '--port <port>',
    description: 'port; 0 takes a free one',
    accepts: number({ min: 0, max: 65_535, integer: true }),
    default: 8080,
  },
  {
    key: 'apiKey',
    flags: '--api-key <key>',
    description: 'clients must send it; default $KVASIR_API_KEY',
    accepts: nonEmpty,
  },
];

/** The repository runs its TypeScript, the package its JavaScript. */
const IN_CLONE = import.meta.url.endsWith('.ts');

/** `kvasir serve`: the OpenAI-compatible server with its page, until Ctrl-C. */
export function serveCommand(command: Command, context: Context): Command {
  addOptions(command.description('serve the OpenAI API and a page'), [
    MODEL,
    ...OWN,
    ...LOAD_OPTIONS,
    ...ENGINE_OPTIONS,
    ...QUEUE_OPTIONS,
    JSON_OUTPUT,
  ]);
  return command.action(async (options: Record<string, unknown>) => {
    const { io } = context;
    const first = await resolveModel(context.catalogue, options.model as string);
    const catalogue = withLoadOptions(context.catalogue, options, first);
    const stop = new AbortController();
    const release = io.onInterrupt(() => stop.abort());
    const progress = new Progress(io, () => '');
    let engine: EngineApi | undefined;
    try {
      engine = await context.createEngine(pick(options, [...ENGINE_OPTIONS, ...QUEUE_OPTIONS]) as EngineOptions);
      const apiKey = (options.apiKey as string | undefined) ?? io.env.KVASIR_API_KEY;
      const { serve } = await import('../serve/server.node.ts');
      const server = await serve({
        engine,
        catalogue,
        host: options.host as string,
        port: options.port as number,
        pullCommand: `${IN_CLONE ? 'npm run -s kvasir --' : 'npx kvasir'} pull smollm2-135m`,
        ...(apiKey && { apiKey }),
        onError: error => io.stderr.write(`kvasir: ${error instanceof Error ? error.stack : error}\n`),
      });
      try {
        // The port answers at once; the first model comes meanwhile, so that the first request need not wait for it.
        await engine.load(await catalogue.resolve(first.name), at => progress.update(at.what, at.fraction, 1));
        progress.stop();
        if (options.json) printJson(io, { url: server.url, port: server.port, model: first.name });
        else io.stdout.write(`${first.name} is served on ${server.url} (Ctrl-C ends)\n`);
        await aborted(stop.signal);
      } finally {
        await server.close();
      }
    } finally {
      progress.stop();
      release();
      await engine?.dispose();
    }
  });
}

/** The flags of the command line hold for every model that is loaded by name, and the named one may be a path. */
function withLoadOptions(
  catalogue: Catalogue,
  options: Record<string, unknown>,
  first: { name: string; path: string },
): Catalogue {
  const flags = pick(options, LOAD_OPTIONS);
  return {
    async list() {
      const entries = await catalogue.list();
      if (entries.some(entry => entry.name === first.name)) return entries;
      const { name, path } = first;
      const kind = path.endsWith('.gguf') ? 'gguf' : 'folder';
      return [...entries, { name, path, kind, bytes: 0, bundled: false, source: path }];
    },
    resolve: async name => ({ ...(name === first.name ? first : await catalogue.resolve(name)), ...flags }),
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
