import { createInterface } from 'node:readline';

/** One call of a measured process: a JSON line in, a JSON line out. */
export type Handlers = Record<string, (args: never) => unknown>;

/**
 * Answers JSON lines `{ id, op, args }` on stdin with `{ id, result }` or `{ id, error }` on stdout, one at a time, until stdin closes.
 * Anything else that the process prints goes to stderr, so that a library's chatter cannot break the protocol.
 */
export async function serveLines(handlers: Handlers): Promise<void> {
  const write = process.stdout.write.bind(process.stdout);
  process.stdout.write = process.stderr.write.bind(process.stderr) as typeof process.stdout.write;
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() === '') continue;
    const { id, op, args } = JSON.parse(line) as { id: number; op: string; args: never };
    try {
      const handler = handlers[op];
      if (!handler) throw new Error(`no operation "${op}"; known: ${Object.keys(handlers).join(', ')}`);
      const result = (await handler(args)) ?? null;
      write(`${JSON.stringify({ id, result })}\n`);
    } catch (error) {
      write(
        `${JSON.stringify({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) })}\n`,
      );
    }
  }
}
