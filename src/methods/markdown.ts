import type { OptionInfo } from './options.ts';

/** A table of options. */
export function optionTable(options: readonly OptionInfo[], defaults: boolean): string {
  const rows = options.map(option => [
    `\`${option.name}\``,
    option.allowed,
    ...(defaults ? [option.default === undefined ? '' : `\`${String(option.default)}\``] : []),
    option.description,
  ]);
  return table(['option', 'allowed', ...(defaults ? ['default'] : []), 'meaning'], rows);
}

/** A Markdown table. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
