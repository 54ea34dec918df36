/** One row as codes in -127..127 and a scale: absmax / 127; a zero row has scale 0. */
export function encodeInt8(row: ArrayLike<number>): { codes: Int8Array; scale: number } {
  let top = 0;
  for (let i = 0; i < row.length; i++) top = Math.max(top, Math.abs(row[i]!));
  const scale = top / 127;
  const codes = new Int8Array(row.length);
  if (top > 0) for (let i = 0; i < row.length; i++) codes[i] = Math.round(row[i]! / scale);
  return { codes, scale };
}
