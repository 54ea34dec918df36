/** Orthonormal Walsh-Hadamard transforms (Sylvester order), their own inverse; n is a power of two. */

/** Of a line of n f32, in place. */
export function hadamardLine(line: usize, n: i32): void {
  const end = line + (n << 2);
  if (n >= 4) {
    const odd = f32x4(1, -1, 1, -1);
    const upper = f32x4(1, 1, -1, -1);
    for (let at = line; at < end; at += 16) {
      let x = v128.load(at);
      x = f32x4.add(f32x4.mul(x, odd), v128.shuffle<i32>(x, x, 1, 0, 3, 2));
      x = f32x4.add(f32x4.mul(x, upper), v128.shuffle<i32>(x, x, 2, 3, 0, 1));
      v128.store(at, x);
    }
    for (let half: usize = 16; half < (n as usize) << 2; half <<= 1) {
      for (let block = line; block < end; block += half << 1) {
        for (let at = block; at < block + half; at += 16) butterfly(at, at + half);
      }
    }
    const factor = f32x4.splat(1 / sqrt<f32>(n as f32));
    for (let at = line; at < end; at += 16) v128.store(at, f32x4.mul(v128.load(at), factor));
  } else if (n === 2) {
    const x = load<f32>(line);
    const y = load<f32>(line, 4);
    const factor: f32 = 1 / sqrt<f32>(2);
    store<f32>(line, (x + y) * factor);
    store<f32>(line, (x - y) * factor, 4);
  }
}

/**
 * Across n rows of 64 f32, bytes [from, to) of each (multiples of 16), in place. Row i is row channels[i] of the plane
 * (u16 list; 0: row i).
 */
export function hadamardRows(plane: usize, channels: usize, n: i32, from: usize, to: usize): void {
  for (let half = 1; half < n; half <<= 1) {
    for (let i = 0; i < n; i++) {
      if (i & half) continue;
      const x = rowOf(plane, channels, i);
      const y = rowOf(plane, channels, i + half);
      for (let at = from; at < to; at += 16) butterfly(x + at, y + at);
    }
  }
  const factor = f32x4.splat(1 / sqrt<f32>(n as f32));
  for (let i = 0; i < n; i++) {
    const row = rowOf(plane, channels, i);
    for (let at = from; at < to; at += 16) v128.store(row + at, f32x4.mul(v128.load(row + at), factor));
  }
}

/** Row of 64 f32 that stores the part's i-th channel. */
export function rowOf(plane: usize, channels: usize, i: i32): usize {
  return plane + ((channelOf(channels, i) as usize) << 8);
}

/** The part's i-th channel; `channels` is a u16 list or 0. */
export function channelOf(channels: usize, i: i32): i32 {
  return channels ? (load<u16>(channels + (i << 1)) as i32) : i;
}

function butterfly(a: usize, b: usize): void {
  const x = v128.load(a);
  const y = v128.load(b);
  v128.store(a, f32x4.add(x, y));
  v128.store(b, f32x4.sub(x, y));
}
