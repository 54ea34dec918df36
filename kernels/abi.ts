/**
 * Byte layouts shared by the kernels (AssemblyScript) and the code that calls them (TypeScript): both compile this file.
 * All fields are 32 bits wide unless said otherwise; an offset named X_Y is the byte offset of field Y in record X.
 * Addresses are byte addresses in the one shared WASM memory.
 */

/** Tokens in a full page. */
export const PAGE_TOKENS = 64;

/** Numeric formats of a plane. */
export const FORMAT_F32 = 0;
export const FORMAT_F16 = 1;
export const FORMAT_INT8 = 2;

/**
 * LAYOUT: how the bytes of one (layer, KV head) cell of a page are used. Offsets are from the cell's start.
 *   f32, f16  K is [headDim][64] (channel-major), V is [64][headDim] (token-major).
 *   int8      K is [headDim / 2][64][2], V is [64 / 2][headDim][2] (pairs lie together for 16-bit dot products);
 *             codes are round(x / scale) in -127..127; one f32 scale per token for K and one for V.
 */
export const LAYOUT_BYTES = 64;
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
/** Work space of one thread, 64-byte aligned. */
export const SCRATCH_BYTES = 458752;

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
