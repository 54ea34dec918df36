import { spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { KvasirError } from '../errors.ts';
import type { Context } from './io.ts';

const FOLDER = fileURLToPath(new URL('../../bench/', import.meta.url));

/** `kvasir bench <name>`: runs a benchmark of the repository with its own options. */
export function benchCommand(command: Command, context: Context): Command {
  command.description('run a benchmark of the repository');
  command
    .argument('[name]', 'which one; without it, they are listed')
    .argument('[options...]', "the benchmark's own options");
  command.allowUnknownOption().passThroughOptions();
  return command.action(async (name: string | undefined, options: string[]) => {
    const files = (await readdir(FOLDER).catch(() => [])).filter(file => /^[\w-]+\.ts$/.test(file));
    const names = files.map(file => file.slice(0, -3)).sort();
    if (names.length === 0) {
      throw new KvasirError(
        'unsupported',
        'the benchmarks are not part of the package: run them in a clone of the repository',
      );
    }
    if (name === undefined) {
      context.io.stdout.write(`${names.join('\n')}\n`);
      return;
    }
    if (!names.includes(name)) {
      throw new KvasirError('invalid_request', 'no such benchmark', { field: 'name', value: name, allowed: names });
    }
    const child = spawn(process.execPath, [`${FOLDER}${name}.ts`, ...options], { stdio: 'inherit' });
    const code = await new Promise<number>((resolve, reject) => {
      child.on('error', reject).on('close', status => resolve(status ?? 1));
    });
    if (code !== 0)
      throw new KvasirError('backend_failed', `the benchmark ended with code ${code}`, { field: 'name', value: name });
  });
}
