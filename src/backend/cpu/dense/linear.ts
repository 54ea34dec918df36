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
  // What several products need of the same input is made once.
  const doubled = new Map<number, string>();
  const twice = ({ form, inputs }: Product): string | null => {
    // A short last block is padded inside the product, where its rounding cannot be followed.
    if (form.kind !== 'codes' || inputs % form.block !== 0) return null;
    const made = doubled.get(form.block) ?? withRest(g, x, inputs, form.block);
    doubled.set(form.block, made);
    return made;
  };
  for (const product of products) {
    const count = product.parts.length;
    const outputs = names.slice(first, first + count);
    const bias = biases && g.vector(`bias:${product.name}`, concatenate(biases.slice(first, first + count), weights));
    const y = count === 1 ? outputs[0] : g.fresh();
    if (product.form.kind === 'codes' && product.form.offsets) sums ??= blockSums(g, x, product);
    multiply(g, weights, x, twice(product), product, y, bias, sums);
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
  twice: string | null,
  product: Product,
  y: string,
  bias: string | undefined,
  sums: string | null,
): void {
  const { form, inputs, outputs } = product;
  if (form.kind === 'floats') {
    const floats = constant(g, weights, product, 'floats', FLOAT, [outputs, inputs]);
    g.op('Gemm', [x, floats, ...(bias ? [bias] : [])], { transB: 1 }, y);
    return;
  }
  const codes = form.offsets ? g.fresh() : y;
  if (twice) multiplyTwice(g, weights, twice, product, codes, bias);
  else multiplyCodes(g, weights, x, product, codes, bias);
  if (!form.offsets) return;
  const offsets = constant(g, weights, product, 'offsets', FLOAT, [outputs, Math.ceil(inputs / form.block)]);
  g.op('Gemm', [sums!, offsets, codes], { transB: 1 }, y);
}

function multiplyCodes(
  g: GraphBuilder,
  weights: WeightSource,
  x: string,
  product: Product,
  y: string,
  bias?: string,
): void {
  const { inputs, outputs } = product;
  const { bits, block } = codesOf(product);
  const blocks = Math.ceil(inputs / block);
  const codes = constant(g, weights, product, 'codes', UINT8, [outputs, blocks, (block * bits) / 8]);
  const scales = constant(g, weights, product, 'scales', FLOAT, [outputs * blocks]);
  g.node(
    'MatMulNBits',
    [x, codes, scales, ...(bias ? ['', '', bias] : [])],
    [y],
    { K: inputs, N: outputs, bits, block_size: block, accuracy_level: ACCURACY_INT8 },
    'com.microsoft',
  );
}

/**
 * x W' as Q(x) W' + (x - Q(x)) W' in one call of twice the rows, Q being the rounding that the product itself makes: what 8
 * bits leave over is rounded to 8 bits in its turn. With 8 bits alone a model's first choice changes at 2-3 % of the tokens of
 * a book, with 16 at none. One row costs about a quarter more (the weights are read once), many rows up to twice as much.
 */
function multiplyTwice(
  g: GraphBuilder,
  weights: WeightSource,
  twice: string,
  product: Product,
  y: string,
  bias: string | undefined,
): void {
  const both = g.fresh();
  multiplyCodes(g, weights, twice, product, both);
  const [high, low] = [g.fresh(), g.fresh()];
  g.node('Split', [both], [high, low], { axis: 0 }, '');
  if (bias) g.op('Add', [g.op('Add', [high, low]), bias], {}, y);
  else g.op('Add', [high, low], {}, y);
}

/** [rows, inputs] to [2 * rows, inputs]: the rows, then what rounding each block to 8 bits leaves of them. */
function withRest(g: GraphBuilder, x: string, inputs: number, block: number): string {
  const blocked = g.op('Reshape', [x, g.integers([-1, inputs / block, block])]);
  const greatest = g.op('ReduceMax', [g.op('Abs', [blocked])], { axes: [2], keepdims: 1 });
  // A block of zeros has no scale; a tiny one does no harm.
  const limit = g.op('Max', [greatest, g.vector('tiny', Float32Array.of(1e-30))]);
  const scale = g.op('Mul', [limit, g.vector('1/127', Float32Array.of(1 / 127))]);
  const rounded = g.op('Mul', [g.op('Round', [g.op('Div', [blocked, scale])]), scale]);
  const rest = g.op('Reshape', [g.op('Sub', [blocked, rounded]), g.integers([-1, inputs])]);
  return g.op('Concat', [x, rest], { axis: 0 });
}

function codesOf({ form }: Product): Extract<Product['form'], { kind: 'codes' }> {
  if (form.kind !== 'codes') throw new RangeError('this product has no codes');
  return form;
}

function constant(
  g: GraphBuilder,
  weights: WeightSource,
  product: Product,
  area: AreaName,
  type: Initializer['type'],
  dims: readonly number[],
): string {
  return g.constant({ name: `${area}:${product.name}`, type, dims, data: weights.area(product, area) });
}

/** [rows, inputs] to the sums of its blocks, [rows, blocks]. */
function blockSums(g: GraphBuilder, x: string, product: Product): string {
  const { block } = codesOf(product);
  const blocked = g.op('Reshape', [x, g.integers([-1, product.inputs / block, block])]);
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
