import { KvasirError } from '../../../errors.ts';
import type { ModelConfig, ModelFile, TensorInfo } from '../../../model/types.ts';
import type { NumericMode } from '../../types.ts';
import { type AreaName, areaRowBytes, type Form, formOf, sameForm } from './form.ts';

/** One matrix product of a segment: tensors with the same input and the same form, their outputs side by side. */
export interface Product {
  /** Unique in the model. */
  readonly name: string;
  readonly form: Form;
  readonly inputs: number;
  readonly outputs: number;
  readonly parts: readonly TensorInfo[];
  /** Where each area lies in the weights file: [offset, bytes]. */
  readonly areas: Readonly<Partial<Record<AreaName, readonly [offset: number, bytes: number]>>>;
}

/** The products of one graph, by input. */
export interface SegmentPlan {
  readonly name: string;
  readonly attentionOut: readonly Product[];
  readonly gateUp: readonly Product[];
  readonly down: readonly Product[];
  readonly qkv: readonly Product[];
  readonly logits: readonly Product[];
}

export interface ModelPlan {
  readonly mode: NumericMode;
  /** Segments 0..layers, then the head. */
  readonly segments: readonly SegmentPlan[];
  readonly head: SegmentPlan;
  /** Bytes of all areas, and of the file with the gaps between them. */
  readonly bytes: number;
  readonly fileBytes: number;
}

/** Areas start on pages, so that a runtime can map them. */
const PAGE = 4096;

export function planModel(file: ModelFile, mode: NumericMode): ModelPlan {
  const { config } = file;
  let end = 0;
  let bytes = 0;
  const place = (length: number): readonly [number, number] => {
    const offset = end;
    end = Math.ceil((end + length) / PAGE) * PAGE;
    bytes += length;
    return [offset, length];
  };
  const products = (names: readonly string[]): Product[] => {
    const infos = names.map(name => tensor(file, name));
    const groups: TensorInfo[][] = [];
    for (const info of infos) {
      const last = groups.at(-1);
      if (last && sameForm(formOf(last[0].type, mode), formOf(info.type, mode))) last.push(info);
      else groups.push([info]);
    }
    return groups.map(parts => {
      const form = formOf(parts[0].type, mode);
      const inputs = parts[0].columns;
      const outputs = parts.reduce((sum, part) => sum + part.rows, 0);
      const areas: Partial<Record<AreaName, readonly [number, number]>> = {};
      for (const [area, rowBytes] of Object.entries(areaRowBytes(form, inputs)) as [AreaName, number][]) {
        areas[area] = place(rowBytes * outputs);
      }
      return { name: parts.map(part => part.name).join('+'), form, inputs, outputs, parts, areas };
    });
  };
  const segments = Array.from({ length: config.layers + 1 }, (_, layer) => {
    const before = (name: string) => (layer > 0 ? products([`layers.${layer - 1}.${name}`]) : []);
    const prefix = `layers.${layer}.`;
    return {
      name: `segment-${layer}`,
      attentionOut: before('o'),
      gateUp: layer > 0 ? products([`layers.${layer - 1}.gate`, `layers.${layer - 1}.up`]) : [],
      down: before('down'),
      qkv: layer < config.layers ? products([`${prefix}q`, `${prefix}k`, `${prefix}v`]) : [],
      logits: [],
    };
  });
  const logits = products([config.tiedEmbeddings ? 'embed' : 'lm_head']);
  const head = { name: 'head', attentionOut: [], gateUp: [], down: [], qkv: [], logits };
  return { mode, segments, head, bytes, fileBytes: end };
}

export function productsOf(plan: SegmentPlan): Product[] {
  return [...plan.attentionOut, ...plan.gateUp, ...plan.down, ...plan.qkv, ...plan.logits];
}

/** Names of the vectors that a segment holds: norm weights and biases. */
export function vectorsOf(config: ModelConfig, layer: number | 'head'): string[] {
  if (layer === 'head') return ['norm'];
  const names: string[] = [];
  if (layer > 0) {
    names.push('mlp_norm');
    if (config.postNorms) names.push('post_attn_norm', 'post_mlp_norm');
  }
  const finished = names.map(name => `layers.${layer - 1}.${name}`);
  if (layer === config.layers) return finished;
  const begun = ['attn_norm'];
  if (config.qkvBias) begun.push('q_bias', 'k_bias', 'v_bias');
  if (config.qkNorm) begun.push('q_norm', 'k_norm');
  return [...finished, ...begun.map(name => `layers.${layer}.${name}`)];
}

function tensor(file: ModelFile, name: string): TensorInfo {
  const info = file.tensors.get(name);
  if (info === undefined) {
    throw new KvasirError('bad_model_file', `The model has no tensor "${name}".`, { field: name });
  }
  return info;
}
