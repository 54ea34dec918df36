import type { Pair } from '../../methods/format/kvtuner.ts';
import { formatPairs } from '../../methods/format/kvtuner.ts';
import type { Evaluator } from './evaluate.ts';

export const WIDTHS = [8, 4, 3, 2] as const;
const EXACT: Pair = { k: 16, v: 16 };

/** KL divergence where one plane of one layer is stored in `WIDTHS[i]` bits and all else is exact: [layers][widths]. */
export interface Sensitivity {
  readonly k: readonly (readonly number[])[];
  readonly v: readonly (readonly number[])[];
}

/** Leaves one plane of one layer at a time to its quantizer: 8 measurements a layer. */
export async function sensitivity(
  evaluator: Evaluator,
  layers: number,
  base: string,
  onStep?: (done: number, total: number) => void,
): Promise<Sensitivity> {
  let done = 0;
  const damage = async (layer: number, pair: Pair) => {
    onStep?.(done++, layers * 2 * WIDTHS.length);
    const pairs = Array.from({ length: layers }, (_, each) => (each === layer ? pair : EXACT));
    return (await evaluator.measure(recipeOf(formatPairs(pairs), base))).kl;
  };
  const plane = async (pairOf: (bits: (typeof WIDTHS)[number]) => Pair) => {
    const lines: number[][] = [];
    for (let layer = 0; layer < layers; layer++) {
      const line: number[] = [];
      for (const bits of WIDTHS) line.push(await damage(layer, pairOf(bits)));
      // Fewer bits never help: what says so is noise.
      for (let i = 1; i < line.length; i++) line[i] = Math.max(line[i]!, line[i - 1]!);
      lines.push(line);
    }
    return lines;
  };
  return { k: await plane(k => ({ k, v: 16 })), v: await plane(v => ({ k: 16, v })) };
}

export function recipeOf(pairs: string, base: string, before = ''): string {
  const step = `kvtuner(pairs="${pairs}"${base === 'kivi' ? '' : `, base=${base}`})`;
  return before === '' ? step : `${before} + ${step}`;
}

/** Ranks of values, ties sharing their mean; then Pearson's correlation of the ranks (Spearman). */
export function spearman(a: readonly number[], b: readonly number[]): number {
  const ranks = (values: readonly number[]) =>
    values.map(value => {
      const below = values.filter(other => other < value).length;
      const same = values.filter(other => other === value).length;
      return below + (same - 1) / 2;
    });
  const [x, y] = [ranks(a), ranks(b)];
  const mean = (a.length - 1) / 2;
  const dot = (p: readonly number[], q: readonly number[]) =>
    p.reduce((sum, value, i) => sum + (value - mean) * (q[i]! - mean), 0);
  return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
}
