/**
 * What the cache of each method costs, by the formula of its card: bytes of keys, values and parameters for the entries that are
 * held, in pages of 64 whose arrays begin at multiples of 16 bytes and whose cells fill whole lines of 64, and f32 columns beside
 * them. Written from the papers and docs/methods alone: nothing here asks the code that is tested what its pages cost.
 */

/** A sequence under a recipe of one method: what a formula may look at. */
export interface Held {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Of the method, with defaults. */
  // biome-ignore lint/suspicious/noExplicitAny: each formula knows the options of its method
  readonly options: Readonly<Record<string, any>>;
  /** Tokens seen at the end of each prompt, and after the steps of decoding that followed it. */
  readonly turns: readonly { readonly prompt: number; readonly end: number }[];
  /** Entries of a view in the arena, and how many of them are stored exactly (where the text decides it). */
  entries(layer: number, head: number): number;
  exact(layer: number, head: number): number;
  /** Of them, copies of parked ones. */
  fetched(layer: number, head: number): number;
  /** Entries of each of its parked units. */
  units(layer: number, head: number): readonly number[];
}

const PAGE = 64;
const pages = (rows: number) => Math.ceil(rows / PAGE);
const wholePages = (rows: number) => Math.floor(Math.max(0, rows) / PAGE) * PAGE;
const upTo = (bytes: number, step: number) => Math.ceil(bytes / step) * step;

/** A bill: items as in ByteItems. */
export class Bill {
  exact = 0;
  encoded = 0;
  joint = 0;
  columns = 0;
  shared = 0;
  pages = 0;
  /** Bytes outside the arena, and of copies of them in memory at most. */
  parked = 0;
  copies = 0;

  /** Pages of f32 rows. */
  addExact(count: number, headDim: number, columns = 0): void {
    this.pages += count;
    this.exact += count * upTo(2 * PAGE * headDim * 4, 64);
    this.columns += count * columns * PAGE * 4;
  }

  /** Pages of one view; `parameters`: their cells point to a block that many pages use. */
  addEncoded(count: number, k: number, v: number, { columns = 0, parameters = false } = {}): void {
    this.pages += count;
    this.encoded += count * upTo(k + v + (parameters ? 16 : 0), 64);
    this.columns += count * columns * PAGE * 4;
  }

  /** Pages of several views: rows that they share, and a cell each, with the four addresses of what is shared. */
  addJoint(count: number, rows: number, cell: number, views: number): void {
    this.pages += count;
    this.joint += count * upTo(rows + views * (cell + 16), 64);
  }

  /** A block of f16 parameters, and its row in the table of blocks. */
  addBlock(values: number): void {
    this.shared += upTo(values * 2, 64) + 64;
  }
}

export type CardBytes = (held: Held, bill: Bill) => void;

/** Calls for each view. */
function eachView({ layers, kvHeads }: Held, use: (layer: number, head: number) => void): void {
  for (let layer = 0; layer < layers; layer++) for (let head = 0; head < kvHeads; head++) use(layer, head);
}

const exactPlane = (headDim: number) => PAGE * headDim * 4;
const halves = (count: number) => upTo(count * 2, 16);

/** Codes of `channels` channels of a page. A token's value codes take whole 8 bytes; 3 bits are 2 and 1. */
function codes(plane: 'k' | 'v', bits: number, channels: number): number {
  if (bits === 3) return codes(plane, 2, channels) + codes(plane, 1, channels);
  return plane === 'k' ? (PAGE * channels * bits) / 8 : PAGE * upTo((channels * bits) / 8, 8);
}

/** Codes, and a scale and a minimum (`params` of them) for every group. */
function grouped(plane: 'k' | 'v', bits: number, channels: number, groups: number, params = 2): number {
  return codes(plane, bits, channels) + params * halves(groups);
}

/** Groups of `size` tokens within a channel; of `size` channels within a token. */
const alongTokens = (channels: number, size: number) => (channels * PAGE) / size;
const alongChannels = (channels: number, size: number) => (PAGE * channels) / Math.min(size, channels);

/** Entries that stay, exact, with so many columns. */
const kept =
  (columns = 0): CardBytes =>
  (held, bill) =>
    eachView(held, (layer, head) => bill.addExact(pages(held.entries(layer, head)), held.headDim, columns));

/** Pages whose keys or values may each be encoded or exact: the first `k` and `v` entries of n. */
function addPlanes(bill: Bill, n: number, d: number, due: { k: number; v: number }, size: { k: number; v: number }) {
  for (let page = 0; page < pages(n); page++) {
    const end = (page + 1) * PAGE;
    const [k, v] = [end <= due.k, end <= due.v];
    if (k || v) bill.addEncoded(1, k ? size.k : exactPlane(d), v ? size.v : exactPlane(d));
    else bill.addExact(1, d);
  }
}

/** KIVI: b bits, two parameters a group; keys of n - n mod R, values of all but the last R entries. */
function kiviDue(n: number, residual: number): { k: number; v: number } {
  return { k: n - (n % residual), v: wholePages(n - residual) };
}

const kivi: CardBytes = (held, bill) => {
  const { headDim: d, options } = held;
  const { bits, group, residual } = options;
  const size = {
    k: grouped('k', bits, d, alongTokens(d, group)),
    v: grouped('v', bits, d, alongChannels(d, group)),
  };
  eachView(held, (layer, head) => {
    const n = held.entries(layer, head);
    addPlanes(bill, n, d, kiviDue(n, residual), size);
  });
};

/** KVTuner: KIVI's quantizer, or one of larger groups, with the layer's own pair of widths; 16 bits are exact. */
const kvtuner: CardBytes = (held, bill) => {
  const { headDim: d, options } = held;
  const kivis = options.base === 'kivi';
  const groups = {
    k: options.base === 'token' ? alongChannels(d, d) : alongTokens(d, kivis ? 32 : PAGE),
    v: alongChannels(d, kivis ? 32 : d),
  };
  const pairs = [...(options.pairs as string).matchAll(/k(\d+)v(\d+)(?:\*(\d+))?/g)].flatMap(([, k, v, times = '1']) =>
    Array.from({ length: Number(times) }, () => ({ k: Number(k), v: Number(v) })),
  );
  eachView(held, (layer, head) => {
    const n = held.entries(layer, head);
    const { k, v } = pairs[pairs.length === 1 ? 0 : layer]!;
    const due = kivis ? kiviDue(n, options.residual) : { k: wholePages(n), v: wholePages(n) };
    addPlanes(
      bill,
      n,
      d,
      { k: k === 16 ? 0 : due.k, v: v === 16 ? 0 : due.v },
      { k: grouped('k', k, d, groups.k), v: grouped('v', v, d, groups.v) },
    );
  });
};

/** An index and a value of 16 bits for the share of a page's elements that stand apart, in slots by 8. */
const apart = (share: number, d: number) => 2 * halves(upTo(share * PAGE * d, 8));

/** GEAR: KIVI's codes, 32 bits an outlier, a pair of rank r a page: r (64 + d) halves. */
const gear: CardBytes = (held, bill) => {
  const { headDim: d, options } = held;
  const { bits, group, outliers, rank, buffer } = options;
  const repair = apart(outliers, d) + halves(PAGE * rank) + halves(rank * d);
  const k = grouped('k', bits, d, alongTokens(d, group)) + repair;
  const v = grouped('v', bits, d, alongChannels(d, group)) + repair;
  eachView(held, (layer, head) => {
    const n = held.entries(layer, head);
    const due = n - (n % buffer);
    bill.addEncoded(due / PAGE, k, v);
    bill.addExact(pages(n - due), d);
  });
};

/**
 * KVQuant: keys by calibrated ranges, one block a head; values with a group a token; outliers of 32 bits, the share that was
 * calibrated for, half as much again of keys; sink pages exact.
 */
const kvquant: CardBytes = (held, bill) => {
  const { headDim: d, options } = held;
  const { bits, outliers = 0.01, sinks } = options;
  const k = codes('k', bits, d) + apart(1.5 * outliers, d);
  const v = grouped('v', bits, d, PAGE) + apart(outliers, d);
  eachView(held, (layer, head) => {
    const n = held.entries(layer, head);
    const encoded = Math.max(0, Math.floor(n / PAGE) - pages(sinks));
    bill.addEncoded(encoded, k, v, { parameters: true });
    bill.addExact(pages(n) - encoded, d);
    if (encoded > 0) bill.addBlock(2 * d);
  });
};

/** ZipCache: two classes in whole pages; keys per channel, values one group a token with a factor a channel and head. */
const zipcache: CardBytes = (held, bill) => {
  const { headDim: d, options } = held;
  const { regular, bitsRegular, bitsSalient, buffer } = options;
  const add = (count: number, bits: number) =>
    bill.addEncoded(count, grouped('k', bits, d, alongTokens(d, PAGE)), grouped('v', bits, d, PAGE), {
      parameters: true,
    });
  eachView(held, (layer, head) => {
    const n = held.entries(layer, head);
    const encoded = n - (n % buffer);
    const few = Math.round((regular * encoded) / PAGE);
    add(few, bitsRegular);
    add(encoded / PAGE - few, bitsSalient);
    bill.addExact(pages(n - encoded), d, 1);
    if (encoded > 0) bill.addBlock(d);
  });
};

/** MiKV: of n entries all but floor(important n) in few bits, whole pages, halves of a head apart; a balancer a head; scores of the others. */
const mikv: CardBytes = (held, bill) => {
  const { headDim: d, options, turns } = held;
  const { bitsImportant, balancer } = options;
  const plane = (of: 'k' | 'v', bits: number) => grouped(of, bits, d, alongChannels(d, d / 2));
  let [retained, important] = [0, 0];
  const demote = (n: number) => {
    retained = Math.max(retained, wholePages(n - Math.floor(options.important * n)));
    // Important ones in codes keep their scores, to be demoted by.
    if (bitsImportant < 16) important = wholePages(n - retained);
  };
  for (const { prompt, end } of turns) {
    demote(prompt);
    for (let n = prompt + 1; n <= end; n++) if ((n - retained) % PAGE === 0) demote(n);
  }
  eachView(held, (layer, head) => {
    const n = held.entries(layer, head);
    const add = (count: number, bits: number, columns: number) =>
      bill.addEncoded(count / PAGE, plane('k', bits), plane('v', bits), { columns, parameters: balancer });
    add(retained, options.bitsRetained, 0);
    if (important > 0) add(important, bitsImportant, 1);
    bill.addExact(pages(n - retained - important), d, 1);
    if (retained + important > 0 && balancer) bill.addBlock(d);
  });
};

/** RotateKV: one group a token and `group` rotated channels; keys of `heads` heads side by side, values each their own. */
const rotatekv: CardBytes = (held, bill) => {
  const { headDim: d, kvHeads, options } = held;
  const { bits, group } = options;
  let heads = options.heads as number;
  while (kvHeads % heads !== 0) heads /= 2;
  const keys = grouped('k', bits, heads * d, 0) + ((heads * d) / Math.min(group, heads * d)) * 2 * halves(PAGE);
  const values = grouped('v', bits, d, alongChannels(d, group));
  eachView(held, (layer, head) => {
    const exact = held.exact(layer, head);
    bill.addExact(pages(exact), d);
    if (head % heads === 0) bill.addJoint((held.entries(layer, head) - exact) / PAGE, keys, values, heads);
  });
  // The signs of each head in the joint rotation.
  for (let head = 0; head < heads; head++) bill.addBlock(heads);
};

/** VidKV: a share of the channels in 2 bits, the rest in 1, two parameters a group; values ternary (one) or in 2 bits (two). */
const vidkv: CardBytes = (held, bill) => {
  const { headDim: d, options, turns } = held;
  const { bitsK, bitsV, group, buffer, protect } = options;
  const wide = Math.round((bitsK - 1) * d);
  const channels = (bits: number, count: number) => grouped('k', bits, count, alongTokens(count, group));
  const k = bitsK === 2 ? channels(2, d) : channels(2, wide) + channels(1, d - wide);
  const values = (params: number) => grouped('v', 2, d, alongTokens(d, group), params);
  let due = 0;
  let safe = 0;
  for (const { prompt, end } of turns) {
    if (protect > 0) safe += Math.round((protect * (prompt - (prompt % buffer) - due)) / PAGE);
    due = end - (end % buffer);
  }
  eachView(held, (layer, head) => {
    const n = held.entries(layer, head);
    bill.addEncoded(safe, k, values(2));
    bill.addEncoded(due / PAGE - safe, k, values(bitsV === 2 ? 2 : 1));
    bill.addExact(pages(n - due), d);
  });
};

/** MiniCache: of two layers one direction a token for K and V, two f32 norms a token and layer; retained entries in both layers. */
const minicache: CardBytes = (held, bill) => {
  const { headDim: d, layers, options } = held;
  const first = Math.floor(options.start * layers);
  const rows = 2 * (upTo((PAGE * d * options.bits) / 8, 16) + (options.bits === 16 ? 0 : 2 * halves(PAGE)));
  eachView(held, (layer, head) => {
    const exact = held.exact(layer, head);
    bill.addExact(pages(exact), d);
    const upper = layer > first && (layer - first) % 2 === 1;
    if (upper) bill.addJoint((held.entries(layer, head) - exact) / PAGE, rows, 2 * PAGE * 4, 2);
  });
};

/** xKV: of a group of layers n (rK + rV) halves, and bases of rank x width; each prompt's whole pages, with bases of its own. */
const xkv: CardBytes = (held, bill) => {
  const { headDim: d, layers, kvHeads, options, turns } = held;
  const { group, bits } = options;
  const rows = (rank: number) => upTo((PAGE * rank * bits) / 8, 16) + (bits === 16 ? 0 : 2 * halves(PAGE));
  for (let first = 0; first < layers; first += group) {
    const views = Math.min(group, layers - first) * kvHeads;
    const rank = (ratio: number) => Math.min(views * d, upTo(ratio * views * d, 8));
    const [k, v] = [rank(options.ratioK), rank(options.ratioV)];
    let joined = 0;
    for (const { prompt } of turns) {
      const due = wholePages(prompt - joined);
      joined += due;
      bill.addJoint(due / PAGE, rows(k) + rows(v), 0, views);
      if (due > 0) for (let view = 0; view < views; view++) for (const r of [k, v]) bill.addBlock(r * d);
    }
    for (let view = 0; view < views; view++) bill.addExact(pages(turns.at(-1)!.end - joined), d);
  }
};

/**
 * LouisKV, LeoAM, ActQKV: sinks, the newest and what is fetched are resident; all else lies outside, its rows with their columns,
 * 4 bytes a position, and a row of the index a unit. `perUnit`: floats of that row; `behind`: bytes of bounds of its halves.
 */
const parking =
  (
    columns: number,
    perUnit: (d: number) => number,
    behind: (held: Held, layer: number) => number = () => 0,
  ): CardBytes =>
  (held, bill) => {
    const { headDim: d } = held;
    eachView(held, (layer, head) => {
      const fetched = held.fetched(layer, head);
      bill.addExact(pages(fetched) + pages(held.entries(layer, head) - fetched), d, columns);
      for (const rows of held.units(layer, head)) {
        bill.parked += rows * ((2 * d + columns) * 4 + 4);
        // 88: the unit's row in the tables.
        bill.parked += perUnit(d) * 4 + 88 + behind(held, layer);
        bill.copies += (held.options.memory ?? 0) * (rows * (2 * d + columns) * 4 + behind(held, layer));
      }
    });
  };

/** Bounds of a unit's 2, 4, ... 2^halvings pieces: least and greatest value of each channel. */
const halvesOf = ({ headDim, options }: Held, layer: number): number => {
  const size = layer < options.early ? options.earlySize : options.size;
  const halvings = Math.min(options.halvings, Math.floor(Math.log2(size)));
  return (2 ** (halvings + 1) - 2) * 2 * headDim * 4;
};

/** By method. One that is not here fails the matrix. */
export const CARD_BYTES: Readonly<Record<string, CardBytes>> = {
  random: kept(),
  'streaming-llm': kept(),
  h2o: kept(1),
  tova: kept(),
  snapkv: kept(),
  'razor-attention': kept(1),
  treekv: kept(2),
  pyramidkv: kept(),
  adakv: kept(),
  cake: kept(),
  windowkv: kept(),
  kvcrush: kept(),
  epicache: kept(),
  'gui-kv': kept(),
  mpcache: kept(),
  prefixkv: kept(),
  fastkv: kept(),
  ems: kept(3),
  kvmerger: kept(),
  minicache,
  xkv,
  kivi,
  gear,
  kvquant,
  zipcache,
  mikv,
  kvtuner,
  rotatekv,
  vidkv,
  louiskv: parking(0, d => d),
  leoam: parking(0, d => 2 * d, halvesOf),
  actqkv: parking(1, d => d),
};
