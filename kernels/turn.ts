import { KEY_TURN_STEP, PAGE_TOKENS, POSITIONS_DELTA } from './abi.ts';

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
  const sines: usize = half << 2;
  for (let t = lo & ~3; t < hi; t += 4) {
    // Tokens that nobody asks for have no position: they are turned as the nearest one that has.
    const p0 = positionOf(positions, contiguous, max<i32>(t, lo));
    const p1 = positionOf(positions, contiguous, min<i32>(max<i32>(t + 1, lo), hi - 1));
    const p2 = positionOf(positions, contiguous, min<i32>(max<i32>(t + 2, lo), hi - 1));
    const p3 = positionOf(positions, contiguous, min<i32>(t + 3, hi - 1));
    let a0 = coarse + (((p0 >> 8) * rotary) << 2);
    let a1 = coarse + (((p1 >> 8) * rotary) << 2);
    let a2 = coarse + (((p2 >> 8) * rotary) << 2);
    let a3 = coarse + (((p3 >> 8) * rotary) << 2);
    let b0 = fine + (((p0 & (KEY_TURN_STEP - 1)) * rotary) << 2);
    let b1 = fine + (((p1 & (KEY_TURN_STEP - 1)) * rotary) << 2);
    let b2 = fine + (((p2 & (KEY_TURN_STEP - 1)) * rotary) << 2);
    let b3 = fine + (((p3 & (KEY_TURN_STEP - 1)) * rotary) << 2);
    let at = plane + (t << 2);
    let i = 0;
    for (; i + 4 <= half; i += 4, at += 4 * ROW) {
      let c0 = cosines(a0, b0, sines);
      let c1 = cosines(a1, b1, sines);
      let c2 = cosines(a2, b2, sines);
      let c3 = cosines(a3, b3, sines);
      let s0 = sinesOf(a0, b0, sines);
      let s1 = sinesOf(a1, b1, sines);
      let s2 = sinesOf(a2, b2, sines);
      let s3 = sinesOf(a3, b3, sines);
      // From four frequencies of a token to four tokens of a frequency.
      let x = v128.shuffle<i32>(c0, c1, 0, 4, 1, 5);
      let y = v128.shuffle<i32>(c2, c3, 0, 4, 1, 5);
      let z = v128.shuffle<i32>(c0, c1, 2, 6, 3, 7);
      let w = v128.shuffle<i32>(c2, c3, 2, 6, 3, 7);
      c0 = v128.shuffle<i64>(x, y, 0, 2);
      c1 = v128.shuffle<i64>(x, y, 1, 3);
      c2 = v128.shuffle<i64>(z, w, 0, 2);
      c3 = v128.shuffle<i64>(z, w, 1, 3);
      x = v128.shuffle<i32>(s0, s1, 0, 4, 1, 5);
      y = v128.shuffle<i32>(s2, s3, 0, 4, 1, 5);
      z = v128.shuffle<i32>(s0, s1, 2, 6, 3, 7);
      w = v128.shuffle<i32>(s2, s3, 2, 6, 3, 7);
      s0 = v128.shuffle<i64>(x, y, 0, 2);
      s1 = v128.shuffle<i64>(x, y, 1, 3);
      s2 = v128.shuffle<i64>(z, w, 0, 2);
      s3 = v128.shuffle<i64>(z, w, 1, 3);
      const pair = at + half * ROW;
      turnPair(at, pair, c0, s0);
      turnPair(at + ROW, pair + ROW, c1, s1);
      turnPair(at + 2 * ROW, pair + 2 * ROW, c2, s2);
      turnPair(at + 3 * ROW, pair + 3 * ROW, c3, s3);
      a0 += 16;
      a1 += 16;
      a2 += 16;
      a3 += 16;
      b0 += 16;
      b1 += 16;
      b2 += 16;
      b3 += 16;
    }
    for (; i < half; i++, at += ROW, a0 += 4, a1 += 4, a2 += 4, a3 += 4, b0 += 4, b1 += 4, b2 += 4, b3 += 4) {
      turnOne(at, half, a0, b0, sines);
      turnOne(at + 4, half, a1, b1, sines);
      turnOne(at + 8, half, a2, b2, sines);
      turnOne(at + 12, half, a3, b3, sines);
    }
  }
}

/** Bytes from one channel's tokens to the next one's. */
const ROW: usize = PAGE_TOKENS << 2;

function positionOf(positions: usize, contiguous: bool, token: i32): i32 {
  const delta = contiguous ? token : (load<u16>(positions + (token << 1), POSITIONS_DELTA) as i32);
  return load<i32>(positions) + delta;
}

/** Cosines of sums of a coarse and a fine angle, four frequencies. */
function cosines(a: usize, b: usize, sines: usize): v128 {
  const cos = f32x4.mul(v128.load(a), v128.load(b));
  return f32x4.sub(cos, f32x4.mul(v128.load(a + sines), v128.load(b + sines)));
}

function sinesOf(a: usize, b: usize, sines: usize): v128 {
  const sin = f32x4.mul(v128.load(a + sines), v128.load(b));
  return f32x4.add(sin, f32x4.mul(v128.load(a), v128.load(b + sines)));
}

function turnPair(at: usize, pair: usize, cos: v128, sin: v128): void {
  const x = v128.load(at);
  const y = v128.load(pair);
  v128.store(at, f32x4.sub(f32x4.mul(x, cos), f32x4.mul(y, sin)));
  v128.store(pair, f32x4.add(f32x4.mul(y, cos), f32x4.mul(x, sin)));
}

function turnOne(at: usize, half: i32, a: usize, b: usize, sines: usize): void {
  const cos = load<f32>(a) * load<f32>(b) - load<f32>(a + sines) * load<f32>(b + sines);
  const sin = load<f32>(a + sines) * load<f32>(b) + load<f32>(a) * load<f32>(b + sines);
  const pair = at + half * ROW;
  const x = load<f32>(at);
  const y = load<f32>(pair);
  store<f32>(at, x * cos - y * sin);
  store<f32>(pair, y * cos + x * sin);
}
