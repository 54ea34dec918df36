import type { AreaName } from './form.ts';
import type { GraphBuilder } from './graph.ts';
import { FLOAT, type Initializer, UINT8 } from './onnx.ts';
import type { Product } from './plan.ts';

/** Where graphs get their weights from. */
export interface WeightSource {
  /** A norm weight or bias, float32. */
  vector(name: string): Float32Array;
  /** Bytes of a product's area, or where they lie. */
  area(product: Product, area: AreaName): Initializer['data'];
}

/** Activations are rounded to 8 bits per block and multiplied as integers. */
const ACCURACY_INT8 = 4;

/**
 * x [rows, inputs] times the tensors of `products`, one output [rows, outputs of the tensor] for each tensor in order,
 * named by `names`. `biases`, where given, has one vector per tensor.
 */
export function project(
  g: GraphBuilder,
  weights: WeightSource,
  x: string,
  products: readonly Product[],
  names: readonly string[],
  biases?: readonly string[],
): void {
  let first = 0;
  let sums: string | null = null;
  for (const product of products) {
    const count = product.parts.length;
    const outputs = names.slice(first, first + count);
    const bias = biases && g.vector(`bias:${product.name}`, concatenate(biases.slice(first, first + count), weights));
    const y = count === 1 ? outputs[0] : g.fresh();
    if (product.form.kind === 'codes' && product.form.offsets) sums ??= blockSums(g, x, product);
    multiply(g, weights, x, product, y, bias, sums);
    if (count > 1) {
      const sizes = g.integers(product.parts.map(part => part.rows));
      g.node('Split', [y, sizes], outputs, { axis: 1 }, '');
    }
    first += count;
  }
}

function multiply(
  g: GraphBuilder,
  weights: WeightSource,
  x: string,
  product: Product,
  y: string,
  bias: string | undefined,
  sums: string | null,
): void {
  const { form, inputs, outputs } = product;
  const area = (name: AreaName, type: Initializer['type'], dims: readonly number[]) =>
    g.constant({ name: `${name}:${product.name}`, type, dims, data: weights.area(product, name) });
  if (form.kind === 'floats') {
    g.op('Gemm', [x, area('floats', FLOAT, [outputs, inputs]), ...(bias ? [bias] : [])], { transB: 1 }, y);
    return;
  }
  const { bits, block } = form;
  const blocks = Math.ceil(inputs / block);
  const codes = area('codes', UINT8, [outputs, blocks, (block * bits) / 8]);
  const scales = area('scales', FLOAT, [outputs * blocks]);
  const product8 = form.offsets ? g.fresh() : y;
  g.node(
    'MatMulNBits',
    [x, codes, scales, ...(bias ? ['', '', bias] : [])],
    [product8],
    { K: inputs, N: outputs, bits, block_size: block, accuracy_level: ACCURACY_INT8 },
    'com.microsoft',
  );
  if (form.offsets) g.op('Gemm', [sums!, area('offsets', FLOAT, [outputs, blocks]), product8], { transB: 1 }, y);
}

/** [rows, inputs] to the sums of its blocks, [rows, blocks]. */
function blockSums(g: GraphBuilder, x: string, { form, inputs }: Product): string {
  if (form.kind !== 'codes') throw new RangeError('only codes have blocks');
  const blocked = g.op('Reshape', [x, g.integers([-1, inputs / form.block, form.block])]);
  return g.op('ReduceSum', [blocked, g.integers([2])], { keepdims: 0 });
}

function concatenate(names: readonly string[], weights: WeightSource): Float32Array {
  const vectors = names.map(name => weights.vector(name));
  const out = new Float32Array(vectors.reduce((sum, vector) => sum + vector.length, 0));
  let at = 0;
  for (const vector of vectors) {
    out.set(vector, at);
    at += vector.length;
  }
  return out;
}
