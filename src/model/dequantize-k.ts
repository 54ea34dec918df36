import { HALF_TO_FLOAT } from './float16.ts';

/** The 256-element blocks of ggml ("K-quants"). */
export function dequantizeKBlocks(
  type: 'Q4_K' | 'Q5_K' | 'Q6_K',
  bytes: Uint8Array,
  out: Float32Array,
  blocks: number,
): void {
  if (type === 'Q6_K') dequantizeQ6(bytes, out, blocks);
  else dequantizeAffine(type === 'Q5_K', bytes, out, blocks);
}

/**
 * 6-bit scale and minimum of sub-block j (0..7) out of the 12 packed bytes at `at`:
 * the first four sub-blocks keep theirs in the low six bits of bytes 0..7, the last four
 * in a nibble of bytes 8..11 with two more bits on top of bytes 0..7.
 */
export function unpackScale(bytes: Uint8Array, at: number, j: number): number {
  if (j < 4) return bytes[at + j] & 63;
  return (bytes[at + j + 4] & 15) | ((bytes[at + j - 4] >> 6) << 4);
}

export function unpackMinimum(bytes: Uint8Array, at: number, j: number): number {
  if (j < 4) return bytes[at + j + 4] & 63;
  return (bytes[at + j + 4] >> 4) | ((bytes[at + j] >> 6) << 4);
}

/** Q4_K: d, dmin (f16), 12 bytes of scales, 128 of codes. Q5_K has 32 bytes of fifth bits before the codes. */
function dequantizeAffine(five: boolean, bytes: Uint8Array, out: Float32Array, blocks: number): void {
  const size = five ? 176 : 144;
  for (let b = 0; b < blocks; b++) {
    const at = b * size;
    const d = HALF_TO_FLOAT[bytes[at] | (bytes[at + 1] << 8)];
    const dmin = HALF_TO_FLOAT[bytes[at + 2] | (bytes[at + 3] << 8)];
    const high = at + 16;
    const codes = at + size - 128;
    for (let j = 0; j < 8; j++) {
      const scale = d * unpackScale(bytes, at + 4, j);
      const minimum = dmin * unpackMinimum(bytes, at + 4, j);
      // Sub-blocks 2i and 2i + 1 share 32 bytes: low halves, then high halves.
      const from = codes + (j >> 1) * 32;
      const shift = (j & 1) * 4;
      const target = b * 256 + j * 32;
      for (let l = 0; l < 32; l++) {
        const fifth = five ? ((bytes[high + l] >> j) & 1) * 16 : 0;
        out[target + l] = scale * (((bytes[from + l] >> shift) & 15) + fifth) - minimum;
      }
    }
  }
}

/** Q6_K: 128 bytes of low halves, 64 of upper bit pairs, 16 signed scales, d (f16). */
function dequantizeQ6(bytes: Uint8Array, out: Float32Array, blocks: number): void {
  for (let b = 0; b < blocks; b++) {
    const at = b * 210;
    const d = HALF_TO_FLOAT[bytes[at + 208] | (bytes[at + 209] << 8)];
    for (let h = 0; h < 2; h++) {
      for (let quarter = 0; quarter < 4; quarter++) {
        const low = at + h * 64 + (quarter & 1) * 32;
        const lowShift = (quarter >> 1) * 4;
        const high = at + 128 + h * 32;
        const target = b * 256 + h * 128 + quarter * 32;
        for (let l = 0; l < 32; l++) {
          const scale = (bytes[at + 192 + h * 8 + quarter * 2 + (l >> 4)] << 24) >> 24;
          const code = ((bytes[low + l] >> lowShift) & 15) | (((bytes[high + l] >> (quarter * 2)) & 3) << 4);
          out[target + l] = d * scale * (code - 32);
        }
      }
    }
  }
}
