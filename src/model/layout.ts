import { KvasirError } from '../errors.ts';
import type { ModelConfig } from './types.ts';

/** [rows, columns] of a tensor; a vector has one row. */
export type Shape = readonly [rows: number, columns: number];

/** Every tensor that a model of this configuration has, by canonical name. */
export function expectedTensors(config: ModelConfig): Map<string, Shape> {
  const { hidden, heads, kvHeads, headDim, intermediate, vocab } = config;
  const shapes = new Map<string, Shape>([['embed', [vocab, hidden]]]);
  for (let l = 0; l < config.layers; l++) {
    const add = (name: string, rows: number, columns: number) => shapes.set(`layers.${l}.${name}`, [rows, columns]);
    add('attn_norm', 1, hidden);
    add('q', heads * headDim, hidden);
    add('k', kvHeads * headDim, hidden);
    add('v', kvHeads * headDim, hidden);
    add('o', hidden, heads * headDim);
    if (config.qkvBias) {
      add('q_bias', 1, heads * headDim);
      add('k_bias', 1, kvHeads * headDim);
      add('v_bias', 1, kvHeads * headDim);
    }
    if (config.qkNorm) {
      add('q_norm', 1, headDim);
      add('k_norm', 1, headDim);
    }
    if (config.postNorms) add('post_attn_norm', 1, hidden);
    add('mlp_norm', 1, hidden);
    add('gate', intermediate, hidden);
    add('up', intermediate, hidden);
    add('down', hidden, intermediate);
    if (config.postNorms) add('post_mlp_norm', 1, hidden);
  }
  shapes.set('norm', [1, hidden]);
  if (!config.tiedEmbeddings) shapes.set('lm_head', [vocab, hidden]);
  return shapes;
}

/**
 * Matches a file's tensors with those that the configuration asks for.
 *
 * @param stored tensors of the file by their names there
 * @param nameOf the file's name of a canonical tensor
 * @param ignored whether a tensor that is not asked for is harmless
 * @returns canonical name -> tensor of the file, in model order
 *
 * Raises `bad_model_file` for a missing tensor or a wrong shape, `unsupported` for a tensor that would go unused:
 * a model with parts that Kvasir does not run must not answer wrongly.
 */
export function matchTensors<T extends { rows: number; columns: number }>(
  config: ModelConfig,
  stored: ReadonlyMap<string, T>,
  nameOf: (canonical: string) => string,
  ignored: (name: string) => boolean,
): Map<string, T> {
  const matched = new Map<string, T>();
  const used = new Set<string>();
  for (const [canonical, [rows, columns]] of expectedTensors(config)) {
    const name = nameOf(canonical);
    const tensor = stored.get(name);
    if (tensor === undefined) {
      throw new KvasirError('bad_model_file', `Tensor "${name}" is missing.`, { field: name });
    }
    if (tensor.rows !== rows || tensor.columns !== columns) {
      throw new KvasirError(
        'bad_model_file',
        `Tensor "${name}" has shape [${tensor.rows}, ${tensor.columns}]; the configuration says [${rows}, ${columns}].`,
        { field: name, value: `[${tensor.rows}, ${tensor.columns}]`, allowed: `[${rows}, ${columns}]` },
      );
    }
    matched.set(canonical, tensor);
    used.add(name);
  }
  for (const name of stored.keys()) {
    if (used.has(name) || ignored(name)) continue;
    throw new KvasirError('unsupported', `Tensor "${name}" is part of nothing that Kvasir runs for this model.`, {
      field: name,
    });
  }
  return matched;
}

const LIMITS = [
  ['layers', 1, 1024],
  ['hidden', 1, 1 << 18],
  ['heads', 1, 4096],
  ['kvHeads', 1, 4096],
  ['headDim', 2, 1024],
  ['intermediate', 1, 1 << 22],
  ['vocab', 1, 1 << 24],
  ['context', 1, 2 ** 31],
] as const;

/** Sizes that the caller read from a file, before anything is sized by them. Raises `bad_model_file`. */
export function checkSizes(sizes: Pick<ModelConfig, (typeof LIMITS)[number][0]>): void {
  for (const [field, least, most] of LIMITS) {
    const value = sizes[field];
    if (Number.isInteger(value) && value >= least && value <= most) continue;
    throw new KvasirError('bad_model_file', `The model's ${field} is ${value}.`, {
      field,
      value,
      allowed: `an integer from ${least} to ${most}`,
    });
  }
  if (sizes.heads % sizes.kvHeads !== 0) {
    throw new KvasirError('bad_model_file', `${sizes.heads} query heads do not share ${sizes.kvHeads} KV heads.`, {
      field: 'kvHeads',
      value: sizes.kvHeads,
      allowed: `a divisor of ${sizes.heads}`,
    });
  }
  if (sizes.headDim % 2 !== 0) {
    throw new KvasirError('bad_model_file', `A head of ${sizes.headDim} channels cannot be rotated in pairs.`, {
      field: 'headDim',
      value: sizes.headDim,
      allowed: 'an even number',
    });
  }
}

/** A finite number above zero. Raises `bad_model_file` naming the field. */
export function positive(value: unknown, field: string): number {
  if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
  throw new KvasirError('bad_model_file', `"${field}" is ${printable(value)}; a number above 0 is needed.`, {
    field,
    value: printable(value),
    allowed: 'a number above 0',
  });
}

function printable(value: unknown): string {
  if (value === undefined) return 'missing';
  if (typeof value === 'object') return value === null ? 'null' : 'no number';
  return String(value);
}
