import type { ModelConfig } from '../../../model/types.ts';
import { GraphBuilder } from './graph.ts';
import { project, type WeightSource } from './linear.ts';
import type { Graph } from './onnx.ts';
import type { SegmentPlan } from './plan.ts';

/**
 * The graph between two attentions: inputs `hidden` [rows, hidden] and, but for layer 0, `attention` [rows, heads * headDim];
 * outputs `hidden_out` (but for layer 0) and, but for layer = layers, `q`, `k`, `v`. With q/k norms, q and k come as
 * [rows * heads, headDim]: the same bytes.
 *
 * `hidden` is read by the first residual sum alone, on which all that is written to `hidden_out` depends: the two may share
 * their bytes.
 */
export function segmentGraph(config: ModelConfig, layer: number, plan: SegmentPlan, weights: WeightSource): Graph {
  const g = new GraphBuilder();
  const s = new Scope(g, config, weights);
  g.input('hidden', ['rows', config.hidden]);
  let normed: string;
  if (layer === 0) {
    normed = s.norm('hidden', 'layers.0.attn_norm');
  } else {
    g.input('attention', ['rows', config.heads * config.headDim]);
    const last = layer === config.layers;
    normed = finishLayer(s, layer - 1, plan, last ? null : `layers.${layer}.attn_norm`);
    g.output('hidden_out', ['rows', config.hidden]);
  }
  if (layer < config.layers) beginLayer(s, layer, plan, normed);
  return g.build();
}

/** `hidden` [rows, hidden] to `logits` [rows, vocab]. */
export function headGraph(config: ModelConfig, plan: SegmentPlan, weights: WeightSource): Graph {
  const g = new GraphBuilder();
  const s = new Scope(g, config, weights);
  g.input('hidden', ['rows', config.hidden]);
  project(g, weights, s.norm('hidden', 'norm'), plan.logits, ['logits']);
  g.output('logits', ['rows', config.vocab]);
  return g.build();
}

/** Output product, residual, gated MLP, residual (`hidden_out`); returns that normed by `nextNorm`, '' where there is none. */
function finishLayer(s: Scope, layer: number, plan: SegmentPlan, nextNorm: string | null): string {
  const { g, config, weights } = s;
  const name = (tensor: string) => `layers.${layer}.${tensor}`;
  project(g, weights, 'attention', plan.attentionOut, ['o']);
  const attended = config.postNorms ? s.norm('o', name('post_attn_norm')) : 'o';
  const input = s.addNorm('hidden', attended, name('mlp_norm'), 'residual');
  project(g, weights, input, plan.gateUp, ['gate', 'up']);
  const gated = g.op('Mul', [s.activation('gate'), 'up']);
  project(g, weights, gated, plan.down, ['down']);
  const mlp = config.postNorms ? s.norm('down', name('post_mlp_norm')) : 'down';
  if (nextNorm !== null) return s.addNorm('residual', mlp, nextNorm, 'hidden_out');
  g.op('Add', ['residual', mlp], {}, 'hidden_out');
  return '';
}

function beginLayer(s: Scope, layer: number, plan: SegmentPlan, normed: string): void {
  const { g, config, weights } = s;
  const { heads, kvHeads, headDim, qkNorm } = config;
  const name = (tensor: string) => `layers.${layer}.${tensor}`;
  const biases = config.qkvBias ? ['q_bias', 'k_bias', 'v_bias'].map(name) : undefined;
  project(g, weights, normed, plan.qkv, qkNorm ? ['q_raw', 'k_raw', 'v'] : ['q', 'k', 'v'], biases);
  for (const [output, count] of [
    ['q', heads],
    ['k', kvHeads],
  ] as const) {
    if (qkNorm) {
      const perHead = g.op('Reshape', [`${output}_raw`, g.integers([-1, headDim])]);
      s.norm(perHead, name(`${output}_norm`), output);
      g.output(output, [`rows_${output}`, headDim]);
    } else {
      g.output(output, ['rows', count * headDim]);
    }
  }
  g.output('v', ['rows', kvHeads * headDim]);
}

/** The few operators that every segment repeats. */
class Scope {
  readonly g: GraphBuilder;
  readonly config: ModelConfig;
  readonly weights: WeightSource;

  constructor(g: GraphBuilder, config: ModelConfig, weights: WeightSource) {
    this.g = g;
    this.config = config;
    this.weights = weights;
  }

  /** RMS norm of the last axis. */
  norm(x: string, weight: string, output: string = this.g.fresh()): string {
    const scale = this.g.vector(weight, this.weights.vector(weight));
    const attributes = { axis: -1, epsilon: { float: this.config.normEpsilon } };
    return this.g.op('SimplifiedLayerNormalization', [x, scale], attributes, output);
  }

  /** a + b as `sum`, and its RMS norm (returned), in one pass. */
  addNorm(a: string, b: string, weight: string, sum: string): string {
    const normed = this.g.fresh();
    const scale = this.g.vector(weight, this.weights.vector(weight));
    const attributes = { epsilon: { float: this.config.normEpsilon } };
    this.g.node('SkipSimplifiedLayerNormalization', [a, b, scale], [normed, '', '', sum], attributes, 'com.microsoft');
    return normed;
  }

  activation(x: string): string {
    const output = this.g.fresh();
    if (this.config.activation === 'gelu_tanh') {
      this.g.node('FastGelu', [x], [output], {}, 'com.microsoft');
    } else {
      // x * sigmoid(1 * x)
      this.g.node('QuickGelu', [x], [output], { alpha: { float: 1 } }, 'com.microsoft');
    }
    return output;
  }
}
