import { totalmem } from 'node:os';
import type { Command } from 'commander';
import { FORMAT_NAMES, type FormatName } from '../cache/types.ts';
import { resolveModel } from '../model/hub/catalogue.node.ts';
import type { ModelFile, TensorType } from '../model/types.ts';
import { formatBytes, formatCount, table } from './format.ts';
import { type Context, printJson } from './io.ts';
import { addOptions, bytes, type CliOption, JSON_OUTPUT } from './options.ts';

const OWN: readonly CliOption[] = [
  {
    key: 'memory',
    flags: '--memory <bytes>',
    description: "memory to fit into; default: half of the machine's",
    accepts: bytes,
  },
];

/** What `kvasir inspect` tells of a model. Bytes are of the file's weights and of full cache pages. */
export interface Inspection {
  readonly name: string;
  readonly source: string;
  readonly architecture: string;
  readonly parameters: number;
  readonly layers: number;
  readonly hidden: number;
  readonly intermediate: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocab: number;
  readonly context: number;
  readonly window: number;
  readonly chat: boolean;
  readonly fingerprint: string;
  readonly types: readonly { readonly type: TensorType; readonly tensors: number; readonly bytes: number }[];
  readonly weightBytes: number;
  readonly kvBytesPerToken: Readonly<Record<FormatName, number>>;
  readonly memory: number;
  /** Tokens of context that fit beside the weights, by page format; 0: not even the weights fit. */
  readonly fits: Readonly<Record<FormatName, number>>;
}

/** `kvasir inspect <model>`: shape, types, bytes, and how much context fits in memory; loads no weights. */
export function inspectCommand(command: Command, context: Context): Command {
  addOptions(command.description('show shape, types and bytes of a model, and what fits in memory'), [
    ...OWN,
    JSON_OUTPUT,
  ]);
  command.argument('<model>', 'a name from `kvasir models`, a GGUF file or a Hugging Face folder');
  return command.action(async (model: string, options: Record<string, unknown>) => {
    const { name, path } = await resolveModel(context.catalogue, model);
    const { openModel } = await import('../model/open.node.ts');
    const file = await openModel(path);
    try {
      const { kvBytesPerToken } = await import('../engine/loaded-model.ts');
      const found = inspect(
        name,
        file,
        kvBytesPerToken(file.config),
        (options.memory as number | undefined) ?? Math.floor(totalmem() / 2),
      );
      if (options.json) printJson(context.io, found);
      else context.io.stdout.write(describe(found));
    } finally {
      await file.close();
    }
  });
}

export function inspect(
  name: string,
  file: ModelFile,
  perToken: Readonly<Record<FormatName, number>>,
  memory: number,
): Inspection {
  const { config } = file;
  const byType = new Map<TensorType, { tensors: number; bytes: number }>();
  let parameters = 0;
  let weightBytes = 0;
  for (const tensor of file.tensors.values()) {
    const sum = byType.get(tensor.type) ?? { tensors: 0, bytes: 0 };
    byType.set(tensor.type, { tensors: sum.tensors + 1, bytes: sum.bytes + tensor.byteLength });
    parameters += tensor.rows * tensor.columns;
    weightBytes += tensor.byteLength;
  }
  const room = memory - weightBytes;
  const fits = Object.fromEntries(
    FORMAT_NAMES.map(format => [format, Math.min(config.context, Math.max(0, Math.floor(room / perToken[format])))]),
  ) as Record<FormatName, number>;
  const { architecture, layers, hidden, intermediate, heads, kvHeads, headDim, vocab } = config;
  return {
    name,
    source: file.source,
    architecture,
    parameters,
    layers,
    hidden,
    intermediate,
    heads,
    kvHeads,
    headDim,
    vocab,
    context: config.context,
    window: Math.max(0, ...config.layerWindow),
    chat: file.tokenizer.chatTemplate !== null,
    fingerprint: file.fingerprint,
    types: [...byType].map(([type, sum]) => ({ type, ...sum })).sort((a, b) => b.bytes - a.bytes),
    weightBytes,
    kvBytesPerToken: perToken,
    memory,
    fits,
  };
}

function describe(found: Inspection): string {
  const shape: [string, string | number][] = [
    ['architecture', found.architecture],
    ['parameters', formatCount(found.parameters)],
    ['layers', found.layers],
    ['hidden, intermediate', `${found.hidden}, ${found.intermediate}`],
    ['heads', `${found.heads} query, ${found.kvHeads} KV, of ${found.headDim}`],
    ['vocabulary', found.vocab],
    [
      'context',
      `${found.context} tokens${found.window > 0 ? `, sliding window of ${found.window} in some layers` : ''}`,
    ],
    ['chat template', found.chat ? 'yes' : 'no'],
    ['fingerprint', found.fingerprint],
  ];
  const width = Math.max(...shape.map(([label]) => label.length));
  const head = shape.map(([label, value]) => `${label.padEnd(width)}  ${value}\n`).join('');
  const types = found.types.map(type => [type.type, type.tensors, formatBytes(type.bytes)]);
  const cache = FORMAT_NAMES.map(format => [
    format,
    formatBytes(found.kvBytesPerToken[format]),
    formatBytes(found.kvBytesPerToken[format] * found.context),
    found.fits[format] === found.context ? 'all of it' : `${found.fits[format]} tokens`,
  ]);
  return [
    `${found.name} (${found.source})\n${head}`,
    `${table(['weights', 'tensors', 'size'], [...types, ['all', types.reduce((sum, row) => sum + (row[1] as number), 0), formatBytes(found.weightBytes)]])}\n`,
    `${table(['cache', 'a token', 'full context', `fits in ${formatBytes(found.memory)}`], cache)}\n`,
  ].join('\n');
}
