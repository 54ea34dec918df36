import { MAX_HEAD_DIM, PAGE_TOKENS } from './abi.ts';

/**
 * Work space of one thread. A query vector is one (row, head of the group); a block of up to BLOCK of them walks the
 * pages together. Every matrix with one row per query vector has the same fixed stride ROW, which is 17 cache lines so
 * that rows of a block do not fall on the same cache sets.
 */
export const BLOCK: i32 = 64;
export const ROW: usize = 1088;
const MATRIX: usize = 69632;

/** f32 [BLOCK][headDim]: queries, turned and scaled. */
export const Q: usize = 0;
/** i16 [BLOCK][headDim]: the same for int8 keys, in units of Q_UNIT. */
export const Q16: usize = MATRIX;
/** f32, i32 or i16 [BLOCK][64]: scores, then weights. */
export const S: usize = 2 * MATRIX;
/** f32 [BLOCK][headDim]: results before the division by SUM. */
export const O: usize = 3 * MATRIX;
/** f32 planes of one page, decoded. */
export const PLANE_K: usize = 4 * MATRIX;
export const PLANE_V: usize = PLANE_K + MAX_HEAD_DIM * PAGE_TOKENS * 4;
const STATS: usize = PLANE_V + MAX_HEAD_DIM * PAGE_TOKENS * 4;
/** f32 [BLOCK] each. */
export const MAX: usize = STATS;
export const SUM: usize = STATS + 256;
export const Q_UNIT: usize = STATS + 512;
export const P_UNIT: usize = STATS + 768;
/** u64 [BLOCK]: which of the page's rows a query row sees; one entry per row of the block. */
export const SEEN: usize = STATS + 1024;
/** f32 [MAX_HEAD_DIM]: one row. */
export const LINE: usize = STATS + 1536;
/** Work space of the decoders of scalar and latent planes. */
export const DECODE: usize = STATS + 4096;
export const DECODE_BYTES: usize = 24576;
/** Work space of the products with packed codes. */
const PACKED: usize = DECODE + DECODE_BYTES;
/** Vectors of 3 rows of MAX_HEAD_DIM integers, as `fold` writes them. */
export const FOLDED: usize = PACKED;
/** f32 [4] */
export const FOLDED_UNIT: usize = FOLDED + 3 * MAX_HEAD_DIM * 8;
/** f32 [MAX_HEAD_DIM] each: scales and offsets of a group, or two more lines. */
export const SCALE_LINE: usize = FOLDED_UNIT + 64;
export const OFFSET_LINE: usize = SCALE_LINE + MAX_HEAD_DIM * 4;
export const FOLD_LINE: usize = OFFSET_LINE + MAX_HEAD_DIM * 4;
/** Unpacked codes, where a decoded plane would lie. */
export const CODES: usize = PLANE_K;
/**
 * Latent planes: f32 [24][ROW] shared rows of a stretch of tokens, or [64][96] a stretch of the shared rows of a page; f32 [24]
 * rows of what they come to; bases of K and V, as far as they fit.
 */
export const SHARED_ROWS: usize = (FOLD_LINE + MAX_HEAD_DIM * 4 + 63) & ~63;
export const LATENT_OUT: usize = SHARED_ROWS + 24 * ROW;
export const HELD_BYTES: usize = 65536;
export const HELD_K: usize = LATENT_OUT + 24 * ROW;
export const HELD_V: usize = HELD_K + HELD_BYTES;
