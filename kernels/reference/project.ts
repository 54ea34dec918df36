/** X B in float64: x [rows][width], basis [width][rank]. */
export function project(x: ArrayLike<number>, basis: ArrayLike<number>, width: number, rank: number): Float64Array {
  const out = new Float64Array((x.length / width) * rank);
  for (let i = 0; i < x.length; i++) {
    const [row, c] = [Math.floor(i / width), i % width];
    for (let r = 0; r < rank; r++) out[row * rank + r]! += x[i]! * basis[c * rank + r]!;
  }
  return out;
}
