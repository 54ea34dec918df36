import type { Command } from 'commander';
import { nodeCatalogue } from '../model/hub/catalogue.node.ts';
import { processIo } from './io.ts';
import { buildProgram } from './main.ts';

/** docs/cli.md: every command with its arguments and options, from the same table that parses them. */
export function cliReference(): string {
  const program = buildProgram({
    io: processIo(),
    catalogue: nodeCatalogue(),
    createEngine: () => Promise.reject(new Error('a reference runs nothing')),
  });
  const parts = [
    '# The command line',
    'In a clone: `npm run -s kvasir -- <command>`; from the package: `npx kvasir <command>`. This page is made by `node scripts/cli-docs.ts`.',
    'With `--json` a command prints one JSON value on standard output; an error is `{"error": {"code", "message", "field", "value", "allowed"}}`.',
    'On standard error an error is one line. Exit codes: 0 done, 1 failed, 2 asked for wrongly, 130 stopped by Ctrl-C.',
    ...program.commands.map(section),
  ];
  return `${parts.join('\n\n')}\n`;
}

function section(command: Command): string {
  const help = command.createHelp();
  const lines = [
    `## kvasir ${command.name()}`,
    `\`kvasir ${command.name()} ${command.usage()}\`: ${command.description()}.`,
  ];
  const rows = [
    ...command.registeredArguments.map(argument => [`\`<${argument.name()}>\``, argument.description]),
    ...command.options.map(option => [`\`${option.flags}\``, help.optionDescription(option)]),
  ];
  const cell = (text: string) => text.replaceAll('|', '\\|');
  if (rows.length > 0) {
    lines.push(
      [
        '| option | meaning |',
        '| --- | --- |',
        ...rows.map(([name = '', what = '']) => `| ${cell(name)} | ${cell(what)} |`),
      ].join('\n'),
    );
  }
  return lines.join('\n\n');
}
