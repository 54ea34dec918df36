/**
 * Rows that own the `count` elements of greatest magnitude of f32 [rows][width], ascending, each once; of equal elements the
 * earlier ones count, NaN never does.
 */
export function peakRows(x: Float32Array, width: number, count: number): Uint32Array {
  const most = Math.min(count, x.length);
  // The greatest so far, descending, and where they lie.
  const sizes = new Float64Array(most).fill(-1);
  const places = new Uint32Array(most);
  let least = -1;
  for (let i = 0; i < x.length; i++) {
    const size = Math.abs(x[i]!);
    if (!(size > least)) continue;
    let at = most - 1;
    for (; at > 0 && sizes[at - 1]! < size; at--) {
      sizes[at] = sizes[at - 1]!;
      places[at] = places[at - 1]!;
    }
    sizes[at] = size;
    places[at] = i;
    least = sizes[most - 1]!;
  }
  const rows = new Set<number>();
  for (let n = 0; n < most; n++) if (sizes[n]! >= 0) rows.add(Math.floor(places[n]! / width));
  return Uint32Array.from(rows).sort();
}
