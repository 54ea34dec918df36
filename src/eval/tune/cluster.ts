/**
 * Groups points by density (Ester et al., 1996): two are neighbours where they lie within `radius`; a point with `least` neighbours,
 * itself included, draws all of them into its group. Points of no group are groups of their own. In order of the first member.
 */
export function dbscan(points: readonly (readonly number[])[], radius: number, least = 2): number[][] {
  const neighbours = points.map(a => points.flatMap((b, j) => (distance(a, b) <= radius ? [j] : [])));
  const group = new Array<number>(points.length).fill(-1);
  const groups: number[][] = [];
  for (const [start, near] of neighbours.entries()) {
    if (group[start] !== -1) continue;
    const own = groups.length;
    groups.push([start]);
    group[start] = own;
    if (near.length < least) continue;
    const queue = [...near];
    for (let at = queue.shift(); at !== undefined; at = queue.shift()) {
      if (group[at] !== -1) continue;
      group[at] = own;
      groups[own]!.push(at);
      if (neighbours[at]!.length >= least) queue.push(...neighbours[at]!);
    }
  }
  return groups.map(members => members.sort((a, b) => a - b));
}

function distance(a: readonly number[], b: readonly number[]): number {
  return Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0));
}

/** Layers that keep the same choices and suffer alike: a group each (KVTuner, section 5.3: clustering between layers). */
export function clusterLayers(
  survivors: readonly string[],
  damages: readonly (readonly number[])[],
  radius: number,
): number[][] {
  const points = damages.map(line => line.map(damage => Math.log10(Math.max(damage, 1e-9))));
  const sets = [...new Set(survivors)];
  return sets
    .flatMap(set => {
      const layers = survivors.flatMap((own, layer) => (own === set ? [layer] : []));
      return dbscan(
        layers.map(layer => points[layer]!),
        radius,
      ).map(group => group.map(i => layers[i]!));
    })
    .sort((a, b) => a[0]! - b[0]!);
}
