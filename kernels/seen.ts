import {
  POSITIONS_BASE,
  POSITIONS_DELTA,
  REF_COUNT,
  REF_FIRST,
  REF_FLAG_CONTIGUOUS,
  REF_FLAG_FULL_MASK,
  REF_FLAGS,
  REF_MASK_LO,
  REF_POSITIONS,
  REF_SHIFT,
} from './abi.ts';

/** What the last call of `see` found: the block sees tokens lo..hi of the page; all rows see all of them where `seenWhole`. */
export let seenLo: i32 = 0;
export let seenHi: i32 = 0;
export let seenWhole: bool = false;

/** Bits lo..hi set, 0 <= lo, hi <= 64; none where lo >= hi. */
function range(lo: i32, hi: i32): u64 {
  if (lo >= hi) return 0;
  return (~(0 as u64) >> ((64 - (hi - lo)) as u64)) << (lo as u64);
}

/** The rows of a page that a reference holds: its entries, in order of bits. */
export function liveRows(ref: usize): u64 {
  const first = load<u8>(ref, REF_FIRST) as i32;
  const live = range(first, first + (load<u8>(ref, REF_COUNT) as i32));
  return load<i32>(ref, REF_FLAGS) & REF_FLAG_FULL_MASK ? live : live & load<u64>(ref, REF_MASK_LO);
}

/**
 * Which tokens of a reference each row sees: fills masks (u64[rows]) and the three values above; false where no row sees
 * any. least and most are the bounds of the rows' positions.
 */
export function see(ref: usize, positions: usize, rows: i32, least: i32, most: i32, window: i32, masks: usize): bool {
  const first = load<u8>(ref, REF_FIRST) as i32;
  const end = first + (load<u8>(ref, REF_COUNT) as i32);
  const flags = load<i32>(ref, REF_FLAGS);
  const block = load<u32>(ref, REF_POSITIONS) as usize;
  const base = load<i32>(block, POSITIONS_BASE) + load<i32>(ref, REF_SHIFT);
  let live = range(first, end);
  if (!(flags & REF_FLAG_FULL_MASK)) live &= load<u64>(ref, REF_MASK_LO);
  if (live === 0) return false;
  const contiguous = (flags & REF_FLAG_CONTIGUOUS) !== 0;
  seenWhole = true;
  let union: u64 = 0;
  if (contiguous) {
    if (base + first > most) return false;
    if (window > 0 && least - (base + end - 1) >= window) return false;
    if (base + end - 1 <= least && (window === 0 || most - (base + first) < window)) union = live;
  }
  if (union !== 0) {
    for (let r = 0; r < rows; r++) store<u64>(masks + (r << 3), live);
  } else {
    let common: u64 = live;
    for (let r = 0; r < rows; r++) {
      const position = load<i32>(positions + (r << 2));
      const mask =
        live & (contiguous ? seenInRow(base, position, window) : seenAmong(block, base, first, end, position, window));
      store<u64>(masks + (r << 3), mask);
      union |= mask;
      common &= mask;
    }
    if (union === 0) return false;
    seenWhole = common === union;
  }
  seenLo = ctz(union) as i32;
  seenHi = 64 - (clz(union) as i32);
  // A mask with holes must be applied even where all rows share it.
  if (union !== range(seenLo, seenHi)) seenWhole = false;
  return true;
}

/** Row i lies at base + i. */
function seenInRow(base: i32, position: i32, window: i32): u64 {
  const hi = min<i32>(position - base + 1, 64);
  const lo = window === 0 ? 0 : max<i32>(position - base - window + 1, 0);
  return hi <= 0 ? 0 : range(lo, hi);
}

function seenAmong(block: usize, base: i32, first: i32, end: i32, position: i32, window: i32): u64 {
  let mask: u64 = 0;
  for (let t = first; t < end; t++) {
    const distance = position - base - (load<u16>(block + (t << 1), POSITIONS_DELTA) as i32);
    if (distance >= 0 && (window === 0 || distance < window)) mask |= 1 << (t as u64);
  }
  return mask;
}
