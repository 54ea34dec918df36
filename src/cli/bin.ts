import { nodeCatalogue } from '../model/hub/catalogue.node.ts';
import { type Context, processIo } from './io.ts';
import { main } from './main.ts';

const context: Context = {
  io: processIo(),
  catalogue: nodeCatalogue(),
  createEngine: async options => (await import('../engine/index.ts')).createEngineThread(options),
};

// A reader that has gone (`kvasir generate | head -1`) is no failure.
process.stdout.on('error', error => {
  process.exit((error as NodeJS.ErrnoException).code === 'EPIPE' ? 0 : 1);
});

process.exitCode = await main(process.argv.slice(2), context);
