import { PAGE_TOKENS } from '../../../kernels/abi.ts';
import type { PlaneFormat } from '../../cache/format.ts';
import type {
  Action,
  CacheLayer,
  EncodedEntries,
  EncodeFormats,
  FilledLayer,
  ModelShape,
  Policy,
  PromptLayer,
  SignalRequest,
} from '../types.ts';

/** Rows of one page of a view; `exact` stands for the format of rows that nothing has encoded. */
export interface TrackedPage {
  readonly positions: number[];
  k: PlaneFormat;
  v: PlaneFormat;
}

/**
 * Views of one layer as lists of pages, without numbers in them: which planes of which entries have been encoded, and as
 * what. Refuses what the contract of EncodeAction refuses.
 */
export class TrackedLayer {
  readonly model: ModelShape;
  readonly pages: TrackedPage[][];
  readonly encoded: { head: number; plane: 'k' | 'v'; position: number }[] = [];
  seen = 0;
  /** What a policy is told of a prompt. */
  signal: (request: SignalRequest) => unknown = ({ signal }) => {
    throw new Error(`No ${signal} here.`);
  };
  /** What a column holds; one value an entry. */
  columns: ((name: string, head: number) => Float32Array) | undefined;
  #state: object | undefined;

  constructor(model: ModelShape) {
    this.model = model;
    this.pages = Array.from({ length: model.kvHeads }, () => []);
  }

  /** A prompt of `rows` tokens, the rows that `keep` names per head staying, then the policy's decision. */
  prompt(policy: Policy, rows: number, keep = (_head: number, _position: number) => true, layer = 0): void {
    for (let i = 0; i < rows; i++) this.#append(keep);
    const signal = this.signal as PromptLayer['signal'];
    this.apply(policy.decide!({ ...this.#at(layer), rows, last: true, signal }));
  }

  /** `steps` decoded tokens, with `filled` asked whenever the growing page of a view is full. */
  decode(policy: Policy, steps: number, layer = 0): void {
    for (let i = 0; i < steps; i++) {
      this.#append(() => true);
      const full = this.pages.some(view => view.at(-1)!.positions.length === PAGE_TOKENS && exact(view.at(-1)!));
      if (full) this.apply(policy.filled!({ ...this.#at(layer), signal: this.signal as FilledLayer['signal'] }));
    }
  }

  /** Positions whose given plane is encoded, ascending. */
  encodedPositions(head: number, plane: 'k' | 'v'): number[] {
    return this.pages[head]!.flatMap(page => (page[plane] === 'f32' ? [] : page.positions));
  }

  /** Drops one entry: a hole in its page. */
  drop(head: number, entry: number): void {
    let from = 0;
    for (const { positions } of this.pages[head]!) {
      if (entry < from + positions.length) {
        positions.splice(entry - from, 1);
        return;
      }
      from += positions.length;
    }
  }

  apply(actions: readonly Action[]): void {
    for (const action of [...actions].sort((a, b) => ('from' in a && 'from' in b ? b.from - a.from : 0))) {
      if (action.do !== 'encode') throw new Error(`A format does not ${action.do}.`);
      if ('from' in action) this.#encode(action.head, action.from, action.to, action.k, action.v);
    }
    for (const [head, view] of this.pages.entries()) {
      const classes = actions.flatMap(a => (a.do === 'encode' && 'entries' in a && a.head === head ? [a] : []));
      if (classes.length > 0) this.pages[head] = this.#pack(head, view, classes);
    }
  }

  /** Pages of classes of single entries, before the page that holds the first of them; what is left stays in its pages. */
  #pack(head: number, view: readonly TrackedPage[], classes: readonly (EncodeFormats & EncodedEntries)[]) {
    const all = view.flatMap((page, at) => page.positions.map(position => ({ page, at, position })));
    const taken = new Set<number>();
    const made = classes.flatMap(({ entries, k, v, again }) => {
      if (!k || !v) throw new Error('One plane of single entries.');
      const list = Array.from(entries, entry => {
        if (taken.has(entry)) throw new Error(`Entry ${entry} twice.`);
        taken.add(entry);
        const { page, position } = all[entry]!;
        if (!again && !exact(page)) throw new Error(`Entry ${entry} is encoded already.`);
        for (const plane of ['k', 'v'] as const) this.encoded.push({ head, plane, position });
        return position;
      });
      if (list.some((_, i) => i > 0 && entries[i]! <= entries[i - 1]!)) throw new Error('Not ascending.');
      return Array.from({ length: Math.ceil(list.length / PAGE_TOKENS) }, (_, n) => ({
        positions: list.slice(n * PAGE_TOKENS, (n + 1) * PAGE_TOKENS),
        ...{ k, v },
      }));
    });
    const first = all[Math.min(...taken)]?.at ?? 0;
    const rest = view.map((page, at) => ({
      ...page,
      positions: all.flatMap((entry, i) => (entry.at === at && !taken.has(i) ? [entry.position] : [])),
    }));
    return [...rest.slice(0, first), ...made, ...rest.slice(first)].filter(({ positions }) => positions.length > 0);
  }

  #append(keep: (head: number, position: number) => boolean): void {
    for (const [head, view] of this.pages.entries()) {
      if (!keep(head, this.seen)) continue;
      const last = view.at(-1);
      if (last && exact(last) && last.positions.length < PAGE_TOKENS) last.positions.push(this.seen);
      else view.push({ positions: [this.seen], k: 'f32', v: 'f32' });
    }
    this.seen++;
  }

  #encode(head: number, from: number, to: number, k?: PlaneFormat, v?: PlaneFormat): void {
    const view = this.pages[head]!;
    const next: TrackedPage[] = [];
    const moved: number[] = [];
    let entry = 0;
    for (const page of view) {
      const [start, end] = [entry, entry + page.positions.length];
      entry = end;
      const inside = page.positions.slice(Math.max(0, from - start), Math.max(0, to - start));
      if (inside.length === 0 || end <= from) {
        if (start >= to) flush();
        next.push(page);
        continue;
      }
      for (const plane of ['k', 'v'] as const) {
        if ((plane === 'k' ? k : v) && page[plane] !== 'f32') throw new Error(`${plane} is encoded already.`);
        if (plane === 'k' ? k : v) for (const position of inside) this.encoded.push({ head, plane, position });
      }
      if (!k || !v) {
        if (inside.length !== page.positions.length) throw new Error('One plane of a part of a page.');
        next.push({ positions: page.positions, k: k ?? page.k, v: v ?? page.v });
        continue;
      }
      const before = page.positions.slice(0, Math.max(0, from - start));
      if (before.length > 0) next.push({ ...page, positions: before });
      moved.push(...inside);
      const after = page.positions.slice(Math.max(0, to - start));
      if (end >= to) flush();
      if (after.length > 0) next.push({ ...page, positions: after });
    }
    flush();
    this.pages[head] = next;

    function flush() {
      while (moved.length > 0) next.push({ positions: moved.splice(0, PAGE_TOKENS), k: k!, v: v! });
    }
  }

  #at(layer: number): CacheLayer {
    const ranges = (head: number, fits: (page: TrackedPage) => boolean) => {
      const found: [number, number][] = [];
      let entry = 0;
      for (const page of this.pages[head]!) {
        const end = entry + page.positions.length;
        if (fits(page)) {
          if (found.at(-1)?.[1] === entry) found.at(-1)![1] = end;
          else found.push([entry, end]);
        }
        entry = end;
      }
      return found;
    };
    const positions = (head: number) => Int32Array.from(this.pages[head]!.flatMap(page => page.positions));
    return {
      layer,
      model: this.model,
      seen: this.seen,
      segments: [],
      entries: head => positions(head).length,
      positions,
      fullPages: (head, _layer, plane) =>
        ranges(head, page => page.positions.length === PAGE_TOKENS && (plane ? page[plane] === 'f32' : exact(page))),
      exact: head => ranges(head, exact),
      column: (name, head) => this.columns?.(name, head) ?? new Float32Array(positions(head).length),
      state: <T extends object>(init: () => T): T => {
        this.#state ??= init();
        return this.#state as T;
      },
      random: () => Math.random,
    };
  }
}

function exact({ k, v }: TrackedPage): boolean {
  return k === 'f32' && v === 'f32';
}
