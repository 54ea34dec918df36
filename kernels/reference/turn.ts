/**
 * RoPE (Su et al. 2021) of one row in float64: channel i pairs with i + rotary / 2 and turns by position * frequencies[i];
 * channels from `rotary` = 2 * frequencies.length on pass through.
 */
export function turnRow(
  row: ArrayLike<number>,
  position: number,
  frequencies: ArrayLike<number>,
  magnitude = 1,
): Float64Array {
  const out = Float64Array.from(row);
  const half = frequencies.length;
  for (let i = 0; i < half; i++) {
    const cos = Math.cos(position * frequencies[i]!) * magnitude;
    const sin = Math.sin(position * frequencies[i]!) * magnitude;
    out[i] = row[i]! * cos - row[i + half]! * sin;
    out[i + half] = row[i + half]! * cos + row[i]! * sin;
  }
  return out;
}

/** A TURN table: f32 [positions.length][rotary], cosines then sines. */
export function turnTable(positions: ArrayLike<number>, frequencies: ArrayLike<number>, magnitude = 1): Float32Array {
  const half = frequencies.length;
  const table = new Float32Array(positions.length * half * 2);
  for (let r = 0; r < positions.length; r++) {
    for (let i = 0; i < half; i++) {
      const angle = positions[r]! * frequencies[i]!;
      table[r * half * 2 + i] = Math.cos(angle) * magnitude;
      table[r * half * 2 + half + i] = Math.sin(angle) * magnitude;
    }
  }
  return table;
}
