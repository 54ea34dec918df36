import { setImmediate } from 'node:timers/promises';
import type { Command } from 'commander';
import { CALIBRATIONS, TEXT_CALIBRATIONS } from '../engine/calibrate/index.ts';
import type { EngineOptions, LoadOptions } from '../engine/types.ts';
import { KvasirError } from '../errors.ts';
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
  pick,
} from './options.ts';
import { Progress } from './progress.ts';
import { readText } from './read-text.ts';

const OWN: readonly CliOption[] = [
  {
    key: 'out',
    flags: '--out <path>',
    description: 'write the profile here; default: the cache folder, where the engine looks for it',
    accepts: nonEmpty,
  },
  {
    key: 'text',
    flags: '--text <path>',
    description:
      'kvquant, prefixkv, rotatekv, epicache: the text to read, from its start; default: the end of the last bundled book',
    accepts: nonEmpty,
  },
];
/** Sequences of a calibration have pages of their own kind, and no recipe. */
const LOAD = LOAD_OPTIONS.filter(({ key }) => key !== 'cache' && key !== 'kv');
/** Characters of the book: more tokens than a calibration reads. */
const BOOK_END = 32_768;

/** `kvasir calibrate`: makes the profile of a model that a method needs. */
export function calibrateCommand(command: Command, context: Context): Command {
  command.argument('<method>', CALIBRATIONS.join(', ').replace(/, ([^,]*)$/, ' or $1'));
  addOptions(command.description('make the profile of a model that a method needs'), [
    MODEL,
    ...OWN,
    ...LOAD,
    ...ENGINE_OPTIONS,
    JSON_OUTPUT,
  ]);
  return command.action((kind: string, options: Record<string, unknown>) => run(context, kind, options));
}

async function run(context: Context, kind: string, options: Record<string, unknown>): Promise<void> {
  const { io } = context;
  // Whatever was asked for wrongly is refused before a model is loaded.
  checkKind(kind);
  const text = await textOf(kind, options.text as string | undefined);
  const load: LoadOptions = {
    ...(await resolveModel(context.catalogue, options.model as string)),
    ...pick(options, LOAD),
  };
  const [{ openModelForEval }, { calibrate }, { profilePath }, { writeWhole }] = await Promise.all([
    import('../eval/open.node.ts'),
    import('../engine/calibrate/index.ts'),
    import('../engine/profile.node.ts'),
    import('../eval/result.node.ts'),
  ]);

  const interrupt = new AbortController();
  const release = io.onInterrupt(() => interrupt.abort());
  const progress = new Progress(io, (done, total) => (total > 1 ? `${done}/${total}` : ''));
  try {
    const engine = pick(options, ENGINE_OPTIONS) as EngineOptions;
    await using opened = await openModelForEval(load, engine, at => progress.update(at.what, at.fraction, 1));
    progress.stop();
    const { model } = opened;
    const made = await calibrate(model, kind, text, async (done, total) => {
      progress.update('calibrating', done, total);
      await setImmediate();
      if (interrupt.signal.aborted) throw new KvasirError('aborted', 'the calibration was stopped');
    });
    progress.stop();
    const json = `${JSON.stringify(made, short)}\n`;
    // What is written is what the method reads: it must take it for this model.
    model.setProfile(kind, JSON.parse(json));
    model.program(kind);
    const path = (options.out as string | undefined) ?? profilePath(model.info.fingerprint, kind);
    await write(writeWhole, path, json);
    const { name, fingerprint } = model.info;
    const bytes = Buffer.byteLength(json);
    if (options.json) printJson(io, { model: name, fingerprint, kind, path, bytes });
    else io.stdout.write(`${path}: the ${kind} profile of ${name}, ${bytes} bytes\n`);
  } finally {
    progress.stop();
    release();
  }
}

function checkKind(kind: string): void {
  if (CALIBRATIONS.includes(kind)) return;
  throw new KvasirError('invalid_request', 'no profile is made for this', {
    field: 'method',
    value: kind,
    allowed: CALIBRATIONS,
  });
}

/** Nine digits tell all f32 values apart. */
const short = (_: string, value: unknown) => (typeof value === 'number' ? Number(value.toPrecision(9)) : value);

async function textOf(kind: string, path: string | undefined): Promise<string> {
  if (!TEXT_CALIBRATIONS.includes(kind)) {
    if (path === undefined) return '';
    throw new KvasirError('invalid_request', `${kind} reads no text: its probe is random tokens`, {
      field: '--text',
      value: path,
      allowed: 'no --text',
    });
  }
  if (path === undefined) {
    const { bundledCorpus } = await import('../eval/corpus.node.ts');
    const books = await bundledCorpus().catch((cause: unknown) => {
      throw new KvasirError('invalid_request', 'the books are not part of the package: give a text', {
        field: '--text',
        allowed: 'a file of UTF-8 text',
        cause,
      });
    });
    return books.at(-1)!.slice(-BOOK_END);
  }
  return readText('--text', path);
}

async function write(writeWhole: (path: string, content: string) => Promise<void>, path: string, content: string) {
  await writeWhole(path, content).catch((cause: Error) => {
    throw new KvasirError('invalid_request', `the profile cannot be written: ${cause.message}`, {
      field: '--out',
      value: path,
      allowed: 'a path that can be written',
      cause,
    });
  });
}
