import type { Base } from '../../methods/format/kvtuner.ts';
import { type Choice, prune, type Table, tables, thin } from './choices.ts';
import { clusterLayers } from './cluster.ts';
import { bitsHeld } from './lane.ts';
import { type Sensitivity, WIDTHS } from './sensitivity.ts';

/** Tables of widths of one quantizer that are worth measuring. */
export interface Space {
  readonly base: Base;
  /** Layers that share a choice. */
  readonly groups: readonly (readonly number[])[];
  /** What a group may choose, pruned. */
  readonly choices: readonly (readonly Choice[])[];
  /** Tables that no other beats where damages add up. */
  readonly front: readonly Table[];
}

/** KVTuner, sections 5.2 and 5.3: choices pruned in each layer, layers that keep the same ones and suffer alike joined. */
export function spaceOf(base: Base, known: Sensitivity, layers: number): Space {
  const layerChoices = Array.from({ length: layers }, (_, layer) => prune(choicesOf(known, layer, base)));
  const survivors = layerChoices.map(choices => choices.map(({ pair }) => `k${pair.k}v${pair.v}`).join());
  const damages = known.k.map((line, layer) => [...line, ...known.v[layer]!]);
  const groups = clusterLayers(survivors, damages, 0.35);
  const choices = groups.map(group => prune(groupChoices(known, group, base)));
  return { base, groups, choices, front: thin(tables(choices), 2000) };
}

const WIDTH_OR_EXACT = [16, ...WIDTHS] as const;

/** All pairs of one layer; damages of its planes add up. */
export function choicesOf({ k, v }: Sensitivity, layer: number, base: Base): Choice[] {
  const damage = (line: readonly number[], bits: number) => (bits === 16 ? 0 : line[WIDTHS.indexOf(bits as 8)]!);
  return WIDTH_OR_EXACT.flatMap(kBits =>
    WIDTH_OR_EXACT.map(vBits => ({
      pair: { k: kBits, v: vBits },
      bits: bitsHeld(kBits, base) + bitsHeld(vBits, base),
      damage: damage(k[layer]!, kBits) + damage(v[layer]!, vBits),
    })),
  );
}

function groupChoices(known: Sensitivity, group: readonly number[], base: Base): Choice[] {
  const each = group.map(layer => choicesOf(known, layer, base));
  return each[0]!.map(({ pair }, i) => ({
    pair,
    bits: each.reduce((sum, choices) => sum + choices[i]!.bits, 0),
    damage: each.reduce((sum, choices) => sum + choices[i]!.damage, 0),
  }));
}
