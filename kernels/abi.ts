/**
 * Byte layouts shared by the kernels (AssemblyScript) and the code that calls them (TypeScript): both compile this file.
 * All fields are 32 bits wide unless said otherwise; an offset named X_Y is the byte offset of field Y in record X.
 * Addresses are byte addresses in the one shared WASM memory.
 */

/** Tokens in a full page. */
export const PAGE_TOKENS = 64;

/** Numeric formats of a plane (src/cache/format.ts says what scalar and latent are). */
export const FORMAT_F32 = 0;
export const FORMAT_F16 = 1;
export const FORMAT_INT8 = 2;
export const FORMAT_SCALAR = 3;
export const FORMAT_LATENT = 4;
export const FORMAT_JOINT = 5;

/**
 * LAYOUT: how the bytes of one (layer, KV head) cell of a page are used. Offsets are from the cell's start.
 *   f32, f16  K is [headDim][64] (channel-major), V is [64][headDim] (token-major).
 *   int8      K is [headDim / 2][64][2], V is [64 / 2][headDim][2] (pairs lie together for 16-bit dot products);
 *             codes are round(x / scale) in -127..127; one f32 scale per token for K and one for V.
 */
export const LAYOUT_BYTES = 192;
export const LAYOUT_FORMAT_K = 0;
export const LAYOUT_FORMAT_V = 4;
export const LAYOUT_HEAD_DIM = 8;
export const LAYOUT_K = 12;
export const LAYOUT_V = 16;
/** f32[64], int8 only. */
export const LAYOUT_K_SCALE = 20;
export const LAYOUT_V_SCALE = 24;
/** f32[64] added to the scores (log-weights); 0 where the layout has no bias column. */
export const LAYOUT_BIAS = 28;
/** Bytes of one cell; a page of a span holds one cell per (layer, KV head). */
export const LAYOUT_CELL_BYTES = 32;
/** 1 where keys are stored before RoPE, and are turned on read by their own position. */
export const LAYOUT_KEYS_UNROTATED = 36;
/** Channels that RoPE turns (pairs i, i + rotary / 2); the rest pass through. */
export const LAYOUT_ROTARY = 40;
/**
 * Where planes of a cell lie outside of it: 0, or 1 + offset in the cell of four addresses (u32 each): K codes or shared
 * rows, K parameter block, V codes or shared rows, V parameter block; an address 0 stands for "in the cell". Where
 * the codes of a scalar plane lie outside, all its offsets count from that address.
 */
export const LAYOUT_HEADER = 44;
/** PLANE records of K and V, for scalar and latent formats. */
export const LAYOUT_PLANE_K = 64;
export const LAYOUT_PLANE_V = 128;

/** PLANE: 64 bytes. Offsets are from the cell's start. */
/** scalar: address of PART records, and how many. */
export const PLANE_PARTS = 0;
export const PLANE_PART_COUNT = 4;
/** scalar: outlier slots; offset of u16 index[slots] (token * headDim + channel), and of f16 value[slots], added to the decoded element. Unused slots hold 0. */
export const PLANE_OUTLIERS = 8;
export const PLANE_OUTLIER_INDEX = 12;
export const PLANE_OUTLIER_VALUE = 16;
/** scalar: rank of the pair, offsets of f16 A [64][rank] and f16 B [rank][headDim]. latent: width of the shared rows. */
export const PLANE_RANK = 20;
export const PLANE_A = 24;
export const PLANE_B = 28;
/**
 * latent: 16, 8 or 4 bits: shared rows are f16, u8 or half bytes (low half first), [64][rank]; offset in the
 * shared plane of f16 scale[64] and f16 offset[64] (8 and 4 bits); offset in the cell of f32 norm[64], -1: none; 1 where the parameter block holds a basis f16 [rank][headDim].
 */
export const PLANE_BITS = 32;
export const PLANE_ROW_SCALE = 36;
export const PLANE_ROW_OFFSET = 40;
export const PLANE_NORM = 44;
export const PLANE_BASIS = 48;
/**
 * joint: KV heads whose channels, side by side, are transformed together and stored as PART records say, outside of the cell.
 * The parameter block of each view holds the signs with which it adds up the heads: f16 [heads], +-1.
 */
export const PLANE_HEADS = 60;
/** How ENCODE chooses outliers: OUTLIERS_*; rounds of the power iteration. */
export const PLANE_OUTLIER_RULE = 52;
export const PLANE_ROUNDS = 56;
export const OUTLIERS_PER_CHANNEL = 0;
export const OUTLIERS_PER_TOKEN = 1;
export const OUTLIERS_BY_RANGE = 2;

/**
 * PART: channels of a scalar plane that are stored alike. Codes of a K plane, for each pair of channels: 64 tokens x 2 codes
 * in vectors of 16 bytes; of a V plane, for each pair of tokens: width x 2 codes likewise. In vector L of the stretch, byte
 * j >> (s * bits) holds the code of item 8 * (L * (8 / bits) + s) + (j >> 1) (token or channel) and of pair member j & 1.
 * Widths are padded to whole vectors. 3 bits: a plane of the low 2 bits, then a plane of the high bit. 16 bits: f16
 * [width][64] for K, f16 [64][width] for V.
 */
export const PART_BYTES = 80;
/** Address of u16 channel[width]; 0: channels in order, starting at 0. */
export const PART_CHANNELS = 0;
export const PART_WIDTH = 4;
export const PART_BITS = 8;
/** 0: groups along tokens (parameters [64 / group][width]); 1: along channels (parameters [width / group][64]). */
export const PART_ALONG = 12;
export const PART_GROUP = 16;
/** Offset of the codes. */
export const PART_CODES = 20;
/** 3 bits: offset of the plane of high bits. */
export const PART_CODES_HIGH = 24;
/** Offsets of f16 scale and f16 offset; -1: no scale (16 bits), no offset (absmax, sign, ternary). With PART_SHARED they are offsets in the parameter block, one a channel. */
export const PART_SCALE = 28;
export const PART_OFFSET = 32;
export const PART_SHARED = 36;
/** Address of f32 lut[2^bits], then f32 border[2^bits - 1]: above border[i] a code is more than i. 0: the code itself (absmax: code - 2^(bits - 1), sign: 2 * code - 1, ternary: code - 1). */
export const PART_LUT = 40;
/**
 * f32: what the least and the greatest element of a group stand for before scale and offset: with a LUT its range (lutRange),
 * else those of the least and the greatest code.
 */
export const PART_LUT_LEAST = 56;
export const PART_LUT_GREATEST = 60;
/** RANGE_* */
export const PART_RANGE = 44;
export const RANGE_MINMAX = 0;
export const RANGE_ABSMAX = 1;
export const RANGE_SIGN = 2;
/** 1 bit, scale and offset as with MINMAX: the mean of a group less and plus its mean absolute deviation. */
export const RANGE_DEVIATION = 3;
/** 2 bits, no offset: code - 1. */
export const RANGE_TERNARY = 4;
/** 1: orthonormal Hadamard transform over the part's channels. */
export const PART_TRANSFORM = 48;
/** Offset in the parameter block of f16 side[width]; -1: none. */
export const PART_SIDE = 52;
/** f32: share of a group's range, about its middle, that MINMAX codes span. */
export const PART_CLIP = 64;
/** f32: share of a group's mean magnitude from which on TERNARY codes are not 0. */
export const PART_THRESHOLD = 68;

/** POSITIONS: block of the positions of one page's rows: i32 base, i32 reserved, u16 delta[64]; row i is at base + delta[i]. */
export const POSITIONS_BYTES = 136;
export const POSITIONS_BASE = 0;
export const POSITIONS_DELTA = 8;

/** REF: a reference, one entry of a view. Row i of the page is seen where first <= i < first + count and mask bit i is set. */
export const REF_BYTES = 32;
/** Address of the cell (page address + offset in its span). */
export const REF_CELL = 0;
export const REF_POSITIONS = 4;
/** u8 */
export const REF_FIRST = 8;
/** u8, 1..64 */
export const REF_COUNT = 9;
/** u16, index into the layout table */
export const REF_LAYOUT = 10;
/** i32: positions by which the rows are moved: effective position = stored + shift. */
export const REF_SHIFT = 12;
export const REF_MASK_LO = 16;
export const REF_MASK_HI = 20;
/** Index in the page table; the kernels do not read it. */
export const REF_PAGE = 24;
export const REF_FLAGS = 28;
/** Row i is at base + i: the deltas need not be read. */
export const REF_FLAG_CONTIGUOUS = 1;
/** All mask bits of the range are set. */
export const REF_FLAG_FULL_MASK = 2;

/**
 * TURN: rotary angles for the query (or key) rows of a call: pairs (i32 shift, u32 table), `count` of them; a table is
 * f32 [rows][rotary]: cosines of the rotary / 2 frequencies, then sines, at angle (position of row - shift) * frequency,
 * the magnitude factor multiplied in. The entry with shift 0 comes first.
 */
export const TURN_BYTES = 8;

/** ATTEND: one unit of attention: a block of query rows of one KV head's group over a range of a view. */
export const ATTEND_BYTES = 80;
export const ATTEND_REFS = 0;
export const ATTEND_REF_COUNT = 4;
/** Address of the first query row's first channel, before RoPE; rows are ATTEND_Q_STRIDE floats apart, the group's heads adjacent. */
export const ATTEND_Q = 8;
export const ATTEND_Q_STRIDE = 12;
export const ATTEND_ROWS = 16;
export const ATTEND_GROUP = 20;
export const ATTEND_HEAD_DIM = 24;
/** Result rows, laid out as the queries are; unused where ATTEND_PARTIAL is set. */
export const ATTEND_OUT = 28;
export const ATTEND_OUT_STRIDE = 32;
/** i32[rows]: positions of the query rows. An entry is seen where position(entry) <= position(query). */
export const ATTEND_POSITIONS = 36;
export const ATTEND_TURNS = 40;
export const ATTEND_TURN_COUNT = 44;
/** 0: all; else an entry is seen only where position(query) - position(entry) < window. */
export const ATTEND_WINDOW = 48;
/** f32: factor on q.k */
export const ATTEND_SCALE = 52;
/**
 * 0, or where partial results go: f32 [rows * group][headDim + 2] = (unnormalised out, max, sum). The max is in units
 * of log2: the greatest score times log2(e); out and sum are relative to 2^max. Nothing seen: (0, -infinity, 0).
 */
export const ATTEND_PARTIAL = 56;
/** Address of the layout table. */
export const ATTEND_LAYOUTS = 60;
/**
 * Only for layouts with KEYS_UNROTATED: rotary tables of stored positions, split as p = KEY_TURN_STEP * a + b:
 * COARSE f32 [.][rotary] at angle KEY_TURN_STEP * a * frequency, FINE f32 [KEY_TURN_STEP][rotary] at b * frequency
 * (cosines, then sines; the magnitude factor is in FINE only). Stored positions must be >= 0.
 */
export const ATTEND_KEY_COARSE = 64;
export const ATTEND_KEY_FINE = 68;
export const KEY_TURN_STEP = 256;

/** What a kernel accepts: head sizes are multiples of 8 up to 256, groups 1..16. */
export const MAX_HEAD_DIM = 256;
export const MAX_GROUP = 16;
/** joint planes: channels of all heads, and of one part. */
export const MAX_JOINT_WIDTH = 1024;
export const MAX_JOINT_PART = 128;
/** Work space of one thread, 64-byte aligned. */
export const SCRATCH_BYTES = 630848;

/** MERGE: joins `parts` partial results of the same rows, in order, into result rows. */
export const MERGE_BYTES = 48;
/** Address of part 0; parts are MERGE_PART_STRIDE bytes apart. */
export const MERGE_PARTIAL = 0;
export const MERGE_PART_STRIDE = 4;
export const MERGE_PARTS = 8;
export const MERGE_ROWS = 12;
export const MERGE_GROUP = 16;
export const MERGE_HEAD_DIM = 20;
export const MERGE_OUT = 24;
export const MERGE_OUT_STRIDE = 28;

/** APPEND: writes rows into one cell; their bias column becomes 0. */
export const APPEND_BYTES = 48;
/** Addresses of the first row of this head; rows APPEND_STRIDE floats apart. Keys come before RoPE. */
export const APPEND_K = 0;
export const APPEND_V = 4;
export const APPEND_STRIDE = 8;
export const APPEND_ROWS = 12;
export const APPEND_CELL = 16;
export const APPEND_LAYOUT = 20;
/** First row of the page that is written. */
export const APPEND_FIRST = 24;
/** Rotary table of these rows (a TURN table at shift 0, first row = first appended row); ignored where keys stay unrotated. */
export const APPEND_TURN = 28;
export const APPEND_LAYOUTS = 32;

/** COPY: copies rows between cells of the same layout, codes and parameters alike, columns too. */
export const COPY_BYTES = 32;
export const COPY_FROM = 0;
export const COPY_TO = 4;
export const COPY_LAYOUT = 8;
/** Address of u8 pairs (from row, to row). */
export const COPY_PAIRS = 12;
export const COPY_COUNT = 16;
export const COPY_LAYOUTS = 20;

/** READ: decodes rows [first, first + count) of a cell to f32 [count][headDim], K and V; a 0 address skips that plane. */
export const READ_BYTES = 32;
export const READ_CELL = 0;
export const READ_LAYOUT = 4;
export const READ_FIRST = 8;
export const READ_COUNT = 12;
export const READ_K = 16;
export const READ_V = 20;
export const READ_LAYOUTS = 24;

/**
 * JOB: a list of records that the threads of a pool claim one by one. Words that several threads write lie on cache lines
 * of their own. KIND, COUNT and ITEMS may be written only while OPEN is 0 and ACTIVE is 0; a helper adds itself to ACTIVE
 * before it looks at OPEN.
 */
export const JOB_BYTES = 320;
export const JOB_KIND = 0;
export const JOB_COUNT = 4;
export const JOB_ITEMS = 8;
/** Next item to claim (atomic). */
export const JOB_NEXT = 64;
/** Helpers inside the job (atomic). */
export const JOB_ACTIVE = 128;
/** Counts up with each job; idle helpers sleep on it. -1 asks them to leave. */
export const JOB_GENERATION = 192;
export const JOB_OPEN = 256;
/** 1 once a helper failed. */
export const JOB_FAILED = 260;
/** Helpers that are asleep and need a wake (atomic). */
export const JOB_ASLEEP = 264;

export const KIND_ATTEND = 1;
export const KIND_MERGE = 2;
export const KIND_APPEND = 3;
export const KIND_COPY = 4;
export const KIND_READ = 5;
export const KIND_ENCODE = 6;
export const KIND_SENSE_ROWS = 7;
export const KIND_SENSE = 8;
export const KIND_GRAM = 9;
export const KIND_NEAREST = 10;
export const KIND_PROJECT = 11;

/**
 * ENCODE: writes up to 64 rows into a cell of any format. A plane whose address is 0 is left alone. Rows from ENCODE_ROWS on
 * are as if the last row were repeated (so that they widen no range); they are never seen.
 */
export const ENCODE_BYTES = 48;
/** Addresses of f32 [rows][headDim] (latent: [rows][rank]; joint: [heads][rows][headDim]), as stored: no RoPE is applied. */
export const ENCODE_K = 0;
export const ENCODE_V = 4;
export const ENCODE_ROWS = 8;
export const ENCODE_CELL = 12;
export const ENCODE_LAYOUT = 16;
export const ENCODE_LAYOUTS = 20;
/** latent: addresses of f32 norm[rows] of this view, 0: none. Shared rows are written when ENCODE_K or ENCODE_V is given. */
export const ENCODE_NORM_K = 24;
export const ENCODE_NORM_V = 28;
/** Written: i32, elements beyond a shared range for which no outlier slot was left; they are stored as the end of the range. */
export const ENCODE_CLAMPED = 32;

/**
 * SENSE_ROWS: the softmax statistics of query rows over a view. An ATTEND record whose ATTEND_PARTIAL is the address of
 * f32 [rows * group][2] = (max in units of log2, sum relative to 2^max). ATTEND_OUT is 0, or where scores go, in units of
 * log2: f32 [rows * group][entries of the range], ATTEND_OUT_STRIDE floats apart, -infinity where a row does not see an entry.
 * Entries are live rows, counted in order.
 */

/**
 * SENSE: what entries got from query rows whose scores and statistics SENSE_ROWS has written. Each asked plane is
 * f32 [group][stride], at the number of the entry. Probabilities of entries that a row does not see are 0 and count (in
 * variance too). Ranges that are worked on at the same time begin at multiples of 4; strides are multiples of 4.
 */
export const SENSE_BYTES = 64;
export const SENSE_SCORES = 0;
export const SENSE_SCORE_STRIDE = 4;
export const SENSE_NORMS = 8;
export const SENSE_ROWS = 12;
export const SENSE_GROUP = 16;
/** Entries [from, to). */
export const SENSE_FROM = 20;
export const SENSE_TO = 24;
/** Floats between planes of the query heads of a group. */
export const SENSE_STRIDE = 28;
/** Addresses, 0: not asked. Accumulated over calls: sum of p; greatest p; -sum of p * ln(p + 1e-10). */
export const SENSE_SUM = 32;
export const SENSE_MAX = 36;
export const SENSE_ENTROPY = 40;
/** Welford's running mean and sum of squared deviations, both or none; SENSE_SEEN rows have gone in before. */
export const SENSE_MEAN = 44;
export const SENSE_M2 = 48;
export const SENSE_SEEN = 52;

/**
 * GRAM: adds X^T X of f32 rows to the columns [from, to) of a square matrix, on and above the diagonal: nothing else is
 * touched but the squares of 8 x 8 that the diagonal crosses, which are filled whole. from, to and width are multiples of 8.
 */
export const GRAM_BYTES = 32;
export const GRAM_X = 0;
export const GRAM_ROWS = 4;
export const GRAM_WIDTH = 8;
/** f32 [width][width] */
export const GRAM_OUT = 12;
export const GRAM_FROM = 16;
export const GRAM_TO = 20;

/** PROJECT: X B for f32 rows X whose columns lie in parts. */
export const PROJECT_BYTES = 48;
/** Address of row 0 of part 0; rows and parts are so many floats apart. */
export const PROJECT_X = 0;
export const PROJECT_ROW_STRIDE = 4;
export const PROJECT_PART_STRIDE = 8;
export const PROJECT_ROWS = 12;
export const PROJECT_PARTS = 16;
/** Columns of a part: a multiple of 8 up to 256. */
export const PROJECT_WIDTH = 20;
/** f32 [parts * width][rank], rank a multiple of 8. */
export const PROJECT_BASIS = 24;
export const PROJECT_RANK = 28;
/** f32 [rows][rank] */
export const PROJECT_OUT = 32;

/** NEAREST: the centroid with the least Euclidean distance from each row, the first among equals. */
export const NEAREST_BYTES = 32;
/** f32 [rows][width], width a multiple of 8 up to 256. */
export const NEAREST_X = 0;
export const NEAREST_ROWS = 4;
export const NEAREST_WIDTH = 8;
/** Centroids in chunks of 64: f32 [chunks][width][64], and half of their squared norms f32 [chunks * 64] (infinity: none there). */
export const NEAREST_CENTROIDS = 12;
export const NEAREST_CHUNKS = 16;
export const NEAREST_HALF_NORMS = 20;
/** u32 [rows] */
export const NEAREST_OUT = 24;
