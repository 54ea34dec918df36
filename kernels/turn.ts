import { KEY_TURN_STEP, POSITIONS_DELTA } from './abi.ts';

/**
 * Writes factor * (row turned by table) to `to`: channel i pairs with i + rotary / 2, channels from `rotary` on pass
 * through. `table` holds rotary / 2 cosines, then as many sines. Plain products and sums, so a row's bits do not depend
 * on the build's fused multiply-add.
 */
export function turn(from: usize, to: usize, headDim: i32, rotary: i32, table: usize, factor: f32): void {
  const half = rotary >> 1;
  const bytes: usize = half << 2;
  const scale = f32x4.splat(factor);
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) {
    const x = v128.load(from + i);
    const y = v128.load(from + i + bytes);
    const cos = v128.load(table + i);
    const sin = v128.load(table + i + bytes);
    v128.store(to + i, f32x4.mul(scale, f32x4.sub(f32x4.mul(x, cos), f32x4.mul(y, sin))));
    v128.store(to + i + bytes, f32x4.mul(scale, f32x4.add(f32x4.mul(y, cos), f32x4.mul(x, sin))));
  }
  for (; i < bytes; i += 4) {
    const x = load<f32>(from + i);
    const y = load<f32>(from + i + bytes);
    const cos = load<f32>(table + i);
    const sin = load<f32>(table + i + bytes);
    store<f32>(to + i, factor * (x * cos - y * sin));
    store<f32>(to + i + bytes, factor * (y * cos + x * sin));
  }
  for (let c = rotary; c < headDim; c++) {
    store<f32>(to + (c << 2), factor * load<f32>(from + (c << 2)));
  }
}

/**
 * Turns keys [headDim][64] in place, tokens lo..hi, each by its stored position (KEYS_UNROTATED). The angle of position
 * step * a + b is the sum of a coarse and a fine angle. `positions` is a POSITIONS block.
 */
export function turnKeys(
  plane: usize,
  rotary: i32,
  lo: i32,
  hi: i32,
  positions: usize,
  contiguous: bool,
  coarse: usize,
  fine: usize,
): void {
  const half = rotary >> 1;
  for (let t = lo; t < hi; t++) {
    const delta = contiguous ? t : (load<u16>(positions + (t << 1), POSITIONS_DELTA) as i32);
    const position = load<i32>(positions) + delta;
    const a = coarse + (((position >> 8) * rotary) << 2);
    const b = fine + (((position & (KEY_TURN_STEP - 1)) * rotary) << 2);
    for (let i = 0; i < half; i++) {
      const ca = load<f32>(a + (i << 2));
      const sa = load<f32>(a + ((i + half) << 2));
      const cb = load<f32>(b + (i << 2));
      const sb = load<f32>(b + ((i + half) << 2));
      const cos = ca * cb - sa * sb;
      const sin = sa * cb + ca * sb;
      const at = plane + (i << 8) + (t << 2);
      const pair = at + (half << 8);
      const x = load<f32>(at);
      const y = load<f32>(pair);
      store<f32>(at, x * cos - y * sin);
      store<f32>(pair, y * cos + x * sin);
    }
  }
}
