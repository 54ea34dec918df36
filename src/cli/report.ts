import { KvasirError } from '../errors.ts';
import type { Io } from './io.ts';
import { printJson } from './io.ts';

/** Exit codes: 0 done, 1 failed, 2 asked for wrongly, 130 stopped by Ctrl-C. */
export function exitCode(error: KvasirError): number {
  if (error.code === 'invalid_request' || error.code === 'invalid_recipe') return 2;
  return error.code === 'aborted' ? 130 : 1;
}

/** `kvasir: message (field: value; allowed: ...)`, on one line whatever the value holds. */
export function errorLine(error: KvasirError): string {
  const { field, value, allowed } = error.toJSON();
  const shown = value === undefined ? '' : `: ${typeof value === 'string' ? value : JSON.stringify(value)}`;
  const parts: string[] = [];
  if (field !== undefined) parts.push(`${field}${shown}`);
  else if (shown) parts.push(`value${shown}`);
  if (allowed !== undefined) {
    const list = typeof allowed === 'string' ? allowed : allowed.length > 0 ? allowed.join(', ') : 'none';
    parts.push(`allowed: ${list}`);
  }
  const text = `kvasir: ${error.message}${parts.length > 0 ? ` (${parts.join('; ')})` : ''}`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters of a value must not reach a terminal
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ');
}

/** Tells a person on stderr, and a machine that asked for JSON on stdout. Returns the exit code. */
export function report(io: Io, thrown: unknown, json: boolean): number {
  const error = KvasirError.from(thrown);
  io.stderr.write(`${errorLine(error)}\n`);
  if (json) printJson(io, { error: error.toJSON() });
  // Not one of ours: a defect, whose trace is worth having.
  if (!(thrown instanceof KvasirError) && thrown instanceof Error && io.env.KVASIR_DEBUG) {
    io.stderr.write(`${thrown.stack}\n`);
  }
  return exitCode(error);
}
