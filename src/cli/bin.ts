import { nodeCatalogue } from '../model/hub/catalogue.node.ts';
import { type Context, processIo } from './io.ts';
import { main } from './main.ts';

const context: Context = {
  io: processIo(),
  catalogue: nodeCatalogue(),
  createEngine: async options => (await import('../engine/index.ts')).createEngineThread(options),
};

process.exitCode = await main(process.argv.slice(2), context);
