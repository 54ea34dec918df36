import { Command, type CommanderError } from 'commander';
import { KvasirError } from '../errors.ts';
import { benchCommand } from './bench.ts';
import { calibrateCommand } from './calibrate.ts';
import { chatCommand } from './chat.ts';
import { compareCommand } from './compare.ts';
import { evalCommand } from './eval.ts';
import { generateCommand } from './generate.ts';
import { inspectCommand } from './inspect.ts';
import type { Context } from './io.ts';
import { methodsCommand } from './methods.ts';
import { modelsCommand } from './models.ts';
import { pullCommand } from './pull.ts';
import { report } from './report.ts';
import { scbenchCommand } from './scbench.ts';
import { scoreCommand } from './score.ts';
import { serveCommand } from './serve.ts';
import { tuneCommand } from './tune.ts';
import { version } from './version.ts';

const COMMANDS = {
  chat: chatCommand,
  generate: generateCommand,
  serve: serveCommand,
  pull: pullCommand,
  models: modelsCommand,
  methods: methodsCommand,
  inspect: inspectCommand,
  score: scoreCommand,
  compare: compareCommand,
  tune: tuneCommand,
  eval: evalCommand,
  scbench: scbenchCommand,
  calibrate: calibrateCommand,
  bench: benchCommand,
};

/** The whole command line, without running anything. */
export function buildProgram(context: Context): Command {
  const program = new Command('kvasir');
  settle(program, context);
  program.description('LLM inference with a programmable KV cache: command line, server and library');
  program.version(version(), '-V, --version', 'print the version');
  program.enablePositionalOptions();
  program.addHelpText('after', '\nkvasir <command> --help shows the options of a command.');
  for (const [name, build] of Object.entries(COMMANDS)) {
    const command = program.command(name);
    settle(command, context);
    build(command, context);
  }
  return program;
}

/** Runs one command line (without program and script) and returns its exit code; raises nothing. */
export async function main(argv: readonly string[], context: Context): Promise<number> {
  try {
    const program = buildProgram(context);
    if (argv.length === 0) {
      context.io.stderr.write(program.helpInformation());
      return 2;
    }
    await program.parseAsync(argv as string[], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof Finished || context.io.readerGone) return 0;
    return report(context.io, error, argv.includes('--json'));
  }
}

/** Help or version was printed. */
class Finished extends Error {}

/** Errors of commander become ours, with what would have been allowed. */
function settle(command: Command, context: Context): void {
  command.helpOption('-h, --help', 'show help');
  command.configureOutput({ writeOut: text => context.io.stdout.write(text), writeErr: () => {} });
  command.showSuggestionAfterError(false);
  command.exitOverride(error => {
    throw translate(error, command);
  });
}

function translate(error: CommanderError, command: Command): Error {
  if (error.exitCode === 0) return new Finished();
  const quoted = /'([^']*)'/.exec(error.message)?.[1] ?? '';
  const flag = quoted.split(/[ ,]/)[0]!;
  const flags = command.options.map(option => option.long ?? option.flags);
  const names = command.commands.map(child => child.name());
  switch (error.code) {
    case 'commander.unknownOption':
      return new KvasirError('invalid_request', 'unknown option', {
        field: 'option',
        value: flag,
        allowed: [...flags, '--help'],
      });
    case 'commander.unknownCommand':
      return new KvasirError('invalid_request', 'unknown command', { field: 'command', value: quoted, allowed: names });
    case 'commander.optionMissingArgument': {
      const option = command.options.find(entry => entry.long === flag);
      return new KvasirError('invalid_request', `${flag} needs a value`, {
        field: flag,
        allowed: option?.description ?? 'a value',
      });
    }
    case 'commander.missingArgument': {
      const argument = command.registeredArguments.find(entry => entry.name() === quoted);
      return new KvasirError('invalid_request', `${quoted} is missing`, {
        field: quoted,
        allowed: argument?.description ?? 'a value',
      });
    }
    case 'commander.excessArguments':
      return new KvasirError('invalid_request', 'too many arguments', {
        field: 'arguments',
        value: command.args.join(' '),
        allowed: command.usage(),
      });
    default:
      return new KvasirError('invalid_request', error.message.replace(/^error: /, ''));
  }
}
