import { dequantizeRows } from '../../../model/dequantize.ts';
import type { ModelFile } from '../../../model/types.ts';

/** Plain float64 reading of the token-wise part, over weights dequantized to float32. Slow; for checks. */
export class DenseReference {
  readonly #file: ModelFile;
  readonly #weights: ReadonlyMap<string, Float32Array>;

  static async open(file: ModelFile): Promise<DenseReference> {
    const weights = new Map<string, Float32Array>();
    for (const [name, { type, columns }] of file.tensors) {
      weights.set(name, dequantizeRows(type, await file.read(name), columns));
    }
    return new DenseReference(file, weights);
  }

  private constructor(file: ModelFile, weights: ReadonlyMap<string, Float32Array>) {
    this.#file = file;
    this.#weights = weights;
  }

  embed(id: number): Float64Array {
    const { hidden, embeddingScale } = this.#file.config;
    const row = this.#weights.get('embed')!.subarray(id * hidden, (id + 1) * hidden);
    return Float64Array.from(row, x => x * embeddingScale);
  }

  /** One row through a segment: [hidden] and [heads * headDim] to the new hidden and, but for the last segment, q, k, v. */
  segment(layer: number, hidden: Float64Array, attention: Float64Array) {
    const { config } = this.#file;
    const after = layer > 0 ? this.#finish(layer - 1, hidden, attention) : hidden;
    if (layer === config.layers) return { hidden: after };
    const name = (tensor: string) => `layers.${layer}.${tensor}`;
    const x = this.#norm(after, name('attn_norm'));
    const project = (tensor: string) => {
      const y = this.#multiply(x, name(tensor));
      if (config.qkvBias) add(y, this.#weights.get(name(`${tensor}_bias`))!);
      return y;
    };
    const [q, k, v] = ['q', 'k', 'v'].map(project);
    if (config.qkNorm) {
      for (const [values, tensor] of [
        [q, 'q_norm'],
        [k, 'k_norm'],
      ] as const) {
        for (let at = 0; at < values.length; at += config.headDim) {
          values.set(this.#norm(values.subarray(at, at + config.headDim), name(tensor)), at);
        }
      }
    }
    return { hidden: after, q, k, v };
  }

  logits(hidden: Float64Array): Float64Array {
    return this.#multiply(this.#norm(hidden, 'norm'), this.#file.config.tiedEmbeddings ? 'embed' : 'lm_head');
  }

  #finish(layer: number, hidden: Float64Array, attention: Float64Array): Float64Array {
    const { config } = this.#file;
    const name = (tensor: string) => `layers.${layer}.${tensor}`;
    const residual = hidden.slice();
    const o = this.#multiply(attention, name('o'));
    add(residual, config.postNorms ? this.#norm(o, name('post_attn_norm')) : o);
    const x = this.#norm(residual, name('mlp_norm'));
    const gate = this.#multiply(x, name('gate'));
    const up = this.#multiply(x, name('up'));
    const act = config.activation === 'silu' ? silu : geluTanh;
    const down = this.#multiply(
      gate.map((value, i) => act(value) * up[i]),
      name('down'),
    );
    add(residual, config.postNorms ? this.#norm(down, name('post_mlp_norm')) : down);
    return residual;
  }

  #multiply(x: Float64Array, tensor: string): Float64Array {
    const weights = this.#weights.get(tensor)!;
    const out = new Float64Array(weights.length / x.length);
    for (let n = 0; n < out.length; n++) {
      let sum = 0;
      for (let i = 0; i < x.length; i++) sum += x[i] * weights[n * x.length + i];
      out[n] = sum;
    }
    return out;
  }

  #norm(x: Float64Array, tensor: string): Float64Array {
    const weights = this.#weights.get(tensor)!;
    let squares = 0;
    for (const value of x) squares += value * value;
    const inverse = 1 / Math.sqrt(squares / x.length + this.#file.config.normEpsilon);
    return x.map((value, i) => value * inverse * weights[i]);
  }
}

export function silu(x: number): number {
  return x / (1 + Math.exp(-x));
}

export function geluTanh(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function add(to: Float64Array, from: ArrayLike<number>): void {
  for (let i = 0; i < to.length; i++) to[i] += from[i];
}
