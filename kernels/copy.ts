import {
  COPY_COUNT,
  COPY_FROM,
  COPY_LAYOUT,
  COPY_LAYOUTS,
  COPY_PAIRS,
  COPY_TO,
  FORMAT_F16,
  FORMAT_F32,
  LAYOUT_BIAS,
  LAYOUT_BYTES,
  LAYOUT_FORMAT_K,
  LAYOUT_FORMAT_V,
  LAYOUT_HEAD_DIM,
  LAYOUT_K,
  LAYOUT_K_SCALE,
  LAYOUT_V,
  LAYOUT_V_SCALE,
  PAGE_TOKENS,
} from './abi.ts';

/** One COPY record, pair after pair: compacting within a cell is safe where no row is read after it was overwritten. */
export function copy(item: usize): void {
  const layout = (load<u32>(item, COPY_LAYOUTS) as usize) + (load<i32>(item, COPY_LAYOUT) as usize) * LAYOUT_BYTES;
  const from = load<u32>(item, COPY_FROM) as usize;
  const to = load<u32>(item, COPY_TO) as usize;
  const pairs = load<u32>(item, COPY_PAIRS) as usize;
  const count = load<i32>(item, COPY_COUNT);
  for (let i = 0; i < count; i++) {
    copyRow(from, to, layout, load<u8>(pairs + (i << 1)) as i32, load<u8>(pairs + (i << 1), 1) as i32);
  }
}

function copyRow(from: usize, to: usize, layout: usize, source: i32, target: i32): void {
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const k = load<i32>(layout, LAYOUT_K);
  const v = load<i32>(layout, LAYOUT_V);
  const formatK = load<i32>(layout, LAYOUT_FORMAT_K);
  const formatV = load<i32>(layout, LAYOUT_FORMAT_V);
  if (formatK === FORMAT_F32) {
    for (let c = 0, at = k; c < headDim; c++, at += PAGE_TOKENS * 4) copyWord(from + at, to + at, source, target);
  } else {
    // A half, or a pair of codes.
    const steps = formatK === FORMAT_F16 ? headDim : headDim >> 1;
    for (let c = 0, at = k; c < steps; c++, at += PAGE_TOKENS * 2) {
      store<u16>(to + at + (target << 1), load<u16>(from + at + (source << 1)));
    }
    if (formatK !== FORMAT_F16) {
      const scale = load<i32>(layout, LAYOUT_K_SCALE);
      copyWord(from + scale, to + scale, source, target);
    }
  }
  if (formatV === FORMAT_F32 || formatV === FORMAT_F16) {
    const bytes = headDim << (formatV === FORMAT_F32 ? 2 : 1);
    memory.copy(to + v + target * bytes, from + v + source * bytes, bytes);
  } else {
    const x = from + v + (source >> 1) * (headDim << 1) + (source & 1);
    const y = to + v + (target >> 1) * (headDim << 1) + (target & 1);
    for (let c = 0; c < headDim << 1; c += 2) store<u8>(y + c, load<u8>(x + c));
    const scale = load<i32>(layout, LAYOUT_V_SCALE);
    copyWord(from + scale, to + scale, source, target);
  }
  const bias = load<i32>(layout, LAYOUT_BIAS);
  if (bias) copyWord(from + bias, to + bias, source, target);
}

function copyWord(from: usize, to: usize, source: i32, target: i32): void {
  store<u32>(to + (target << 2), load<u32>(from + (source << 2)));
}
