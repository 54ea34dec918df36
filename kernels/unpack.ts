import { pairBytes } from './codes.ts';

/**
 * Codes of a packed plane, one a byte, for `addPanels`: panel by panel of 8 lanes, each [rows / 4][8 lanes][4 rows], so that the
 * four codes that meet a quad of integers lie side by side. Rows from..to (multiples of 4) of `lanes` lanes; panels that
 * only pad a vector are written too. Returns the bytes of a panel.
 */
export function unpack(codes: usize, high: usize, lanes: i32, bits: i32, from: i32, to: i32, out: usize): usize {
  const panel: usize = (to - from) << 3;
  if (bits === 3) {
    unpack2(codes, lanes, from, to, out, panel);
    addHighBits(high, lanes, from, to, out, panel);
  } else if (bits === 1) unpack1(codes, lanes, from, to, out, panel);
  else if (bits === 2) unpack2(codes, lanes, from, to, out, panel);
  else if (bits === 4) unpack4(codes, lanes, from, to, out, panel);
  else unpack8(codes, lanes, from, to, out, panel);
  return panel;
}

/** Two pairs of rows, interleaved: the quads of lanes 0-3 of each panel of a vector, and of lanes 4-7. */
function quadsLow(x: v128, y: v128): v128 {
  return v128.shuffle<i16>(x, y, 0, 8, 1, 9, 2, 10, 3, 11);
}

function quadsHigh(x: v128, y: v128): v128 {
  return v128.shuffle<i16>(x, y, 4, 12, 5, 13, 6, 14, 7, 15);
}

function put(out: usize, low: v128, high: v128, mask: v128): void {
  v128.store(out, v128.and(low, mask));
  v128.store(out, v128.and(high, mask), 16);
}

function unpack1(codes: usize, lanes: i32, from: i32, to: i32, out: usize, panel: usize): void {
  const pair: usize = pairBytes(lanes, 1);
  const mask = i8x16.splat(1);
  for (let b = codes + (from >> 1) * pair, end = codes + (to >> 1) * pair; b < end; b += pair << 1, out += 32) {
    let o = out;
    for (let i: usize = 0; i < pair; i += 16, o += panel << 3) {
      const x = v128.load(b + i);
      const y = v128.load(b + pair + i);
      const low = quadsLow(x, y);
      const high = quadsHigh(x, y);
      put(o, low, high, mask);
      put(o + panel, i16x8.shr_u(low, 1), i16x8.shr_u(high, 1), mask);
      put(o + 2 * panel, i16x8.shr_u(low, 2), i16x8.shr_u(high, 2), mask);
      put(o + 3 * panel, i16x8.shr_u(low, 3), i16x8.shr_u(high, 3), mask);
      put(o + 4 * panel, i16x8.shr_u(low, 4), i16x8.shr_u(high, 4), mask);
      put(o + 5 * panel, i16x8.shr_u(low, 5), i16x8.shr_u(high, 5), mask);
      put(o + 6 * panel, i16x8.shr_u(low, 6), i16x8.shr_u(high, 6), mask);
      put(o + 7 * panel, i16x8.shr_u(low, 7), i16x8.shr_u(high, 7), mask);
    }
  }
}

function unpack2(codes: usize, lanes: i32, from: i32, to: i32, out: usize, panel: usize): void {
  const pair: usize = pairBytes(lanes, 2);
  const mask = i8x16.splat(3);
  for (let b = codes + (from >> 1) * pair, end = codes + (to >> 1) * pair; b < end; b += pair << 1, out += 32) {
    let o = out;
    for (let i: usize = 0; i < pair; i += 16, o += panel << 2) {
      const x = v128.load(b + i);
      const y = v128.load(b + pair + i);
      const low = quadsLow(x, y);
      const high = quadsHigh(x, y);
      put(o, low, high, mask);
      put(o + panel, i16x8.shr_u(low, 2), i16x8.shr_u(high, 2), mask);
      put(o + 2 * panel, i16x8.shr_u(low, 4), i16x8.shr_u(high, 4), mask);
      put(o + 3 * panel, i16x8.shr_u(low, 6), i16x8.shr_u(high, 6), mask);
    }
  }
}

function unpack4(codes: usize, lanes: i32, from: i32, to: i32, out: usize, panel: usize): void {
  const pair: usize = pairBytes(lanes, 4);
  const mask = i8x16.splat(15);
  for (let b = codes + (from >> 1) * pair, end = codes + (to >> 1) * pair; b < end; b += pair << 1, out += 32) {
    let o = out;
    for (let i: usize = 0; i < pair; i += 16, o += panel << 1) {
      const x = v128.load(b + i);
      const y = v128.load(b + pair + i);
      const low = quadsLow(x, y);
      const high = quadsHigh(x, y);
      put(o, low, high, mask);
      put(o + panel, i16x8.shr_u(low, 4), i16x8.shr_u(high, 4), mask);
    }
  }
}

function unpack8(codes: usize, lanes: i32, from: i32, to: i32, out: usize, panel: usize): void {
  const pair: usize = pairBytes(lanes, 8);
  for (let b = codes + (from >> 1) * pair, end = codes + (to >> 1) * pair; b < end; b += pair << 1, out += 32) {
    let o = out;
    for (let i: usize = 0; i < pair; i += 16, o += panel) {
      const x = v128.load(b + i);
      const y = v128.load(b + pair + i);
      v128.store(o, quadsLow(x, y));
      v128.store(o, quadsHigh(x, y), 16);
    }
  }
}

/** The third bit of codes whose low two are there; a vector of high bits is two of low ones. */
function addHighBits(codes: usize, lanes: i32, from: i32, to: i32, out: usize, panel: usize): void {
  const pair: usize = pairBytes(lanes, 1);
  const panels = (lanes + 7) >> 3;
  for (let b = codes + (from >> 1) * pair, end = codes + (to >> 1) * pair; b < end; b += pair << 1, out += 32) {
    let o = out;
    for (let i = 0; i < panels; i += 4, o += panel << 2) {
      const at: usize = (i >> 3) << 4;
      const shift = i & 4;
      const x = i16x8.shr_u(v128.load(b + at), shift);
      const y = i16x8.shr_u(v128.load(b + pair + at), shift);
      const low = quadsLow(x, y);
      const high = quadsHigh(x, y);
      orBit(o, i16x8.shl(low, 2), i16x8.shl(high, 2));
      orBit(o + panel, i16x8.shl(low, 1), i16x8.shl(high, 1));
      orBit(o + 2 * panel, low, high);
      orBit(o + 3 * panel, i16x8.shr_u(low, 1), i16x8.shr_u(high, 1));
    }
  }
}

function orBit(out: usize, low: v128, high: v128): void {
  const mask = i8x16.splat(4);
  v128.store(out, v128.or(v128.load(out), v128.and(low, mask)));
  v128.store(out, v128.or(v128.load(out, 16), v128.and(high, mask)), 16);
}
