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
 * How activations are rounded for products with codes. `int16`: what 8 bits left over is rounded to 8 bits in its turn and
 * multiplied too, as more rows of the same call; worth it where few rows decide much, at the logits.
 */
type Precision = 'int8' | 'int16';

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
  precision: Precision = 'int8',
): void {
  let first = 0;
  let sums: string | null = null;
  for (const product of products) {
    const count = product.parts.length;
    const outputs = names.slice(first, first + count);
    const bias = biases && g.vector(`bias:${product.name}`, concatenate(biases.slice(first, first + count), weights));
    const y = count === 1 ? outputs[0] : g.fresh();
    if (product.form.kind === 'codes' && product.form.offsets) sums ??= blockSums(g, x, product);
    multiply(g, weights, x, product, y, bias, sums, precision);
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
  precision: Precision,
): void {
  const { form, inputs, outputs } = product;
  if (form.kind === 'floats') {
    const floats = constant(g, weights, product, 'floats', FLOAT, [outputs, inputs]);
    g.op('Gemm', [x, floats, ...(bias ? [bias] : [])], { transB: 1 }, y);
    return;
  }
  const codes = form.offsets ? g.fresh() : y;
  const whole = inputs % form.block === 0;
  if (precision === 'int16' && whole) multiplyTwice(g, weights, x, product, codes);
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

/** x W' as Q(x) W' + (x - Q(x)) W' in one call of twice the rows, Q being the rounding that the product itself makes. */
function multiplyTwice(g: GraphBuilder, weights: WeightSource, x: string, product: Product, y: string): void {
  const blocked = g.op('Reshape', [
    x,
    g.integers([-1, product.inputs / codesOf(product).block, codesOf(product).block]),
  ]);
  const greatest = g.op('ReduceMax', [g.op('Abs', [blocked])], { axes: [2], keepdims: 1 });
  // A block of zeros has no scale; a tiny one does no harm.
  const limit = g.op('Max', [greatest, g.vector('tiny', Float32Array.of(1e-30))]);
  const scale = g.op('Mul', [limit, g.vector('1/127', Float32Array.of(1 / 127))]);
  const rounded = g.op('Mul', [g.op('Round', [g.op('Div', [blocked, scale])]), scale]);
  const rest = g.op('Reshape', [g.op('Sub', [blocked, rounded]), g.integers([-1, product.inputs])]);
  const both = g.fresh();
  multiplyCodes(g, weights, g.op('Concat', [x, rest], { axis: 0 }), product, both);
  const [high, low] = [g.fresh(), g.fresh()];
  g.node('Split', [both], [high, low], { axis: 0 }, '');
  g.op('Add', [high, low], {}, y);
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
