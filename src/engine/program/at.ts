import type { CacheSequence } from '../../cache/sequence.ts';
import { KvasirError } from '../../errors.ts';
import type {
  CacheLayer,
  FilledLayer,
  ModelShape,
  PromptLayer,
  PromptText,
  Segment,
  SignalRequest,
  SignalValue,
} from '../../methods/types.ts';
import { Random } from '../random.ts';
import { segmentsOf } from '../segments.ts';
import type { Signals } from '../sense/sensor.ts';

type Range = readonly [from: number, to: number];

/** What a policy sees of a sequence at a layer. */
export class AtLayer implements CacheLayer {
  readonly layer: number;
  readonly model: ModelShape;
  readonly seen: number;
  readonly #sequence: CacheSequence;
  readonly #key: string;
  readonly #seed: number;

  /** @param key names the method within its recipe: its state goes by it */
  constructor(init: {
    sequence: CacheSequence;
    model: ModelShape;
    layer: number;
    seen: number;
    key: string;
    seed: number;
  }) {
    this.layer = init.layer;
    this.model = init.model;
    this.seen = init.seen;
    this.#sequence = init.sequence;
    this.#key = init.key;
    this.#seed = init.seed;
  }

  get segments(): readonly Segment[] {
    return segmentsOf(this.#sequence, this.seen);
  }

  entries(head: number, layer = this.layer): number {
    return this.#sequence.entries(layer, head);
  }

  positions(head: number, layer = this.layer): Int32Array {
    return this.#sequence.positions(layer, head);
  }

  fullPages(head: number, layer = this.layer, plane?: 'k' | 'v'): readonly Range[] {
    return this.#sequence.fullPageRanges(layer, head, plane);
  }

  exact(head: number, layer = this.layer): readonly Range[] {
    return this.#sequence.exactRanges(layer, head);
  }

  column(name: string, head: number, layer = this.layer): Float32Array {
    return this.#sequence.column(layer, head, name);
  }

  state<T extends object>(init: () => T): T {
    const known = this.#sequence.state<T>(this.#key);
    if (known) return known;
    const made = init();
    this.#sequence.setState(this.#key, made);
    return made;
  }

  /** The state may have grown in place: its bytes are counted anew. */
  settleState(): void {
    const known = this.#sequence.state(this.#key);
    if (known) this.#sequence.setState(this.#key, known);
  }

  random(): () => number {
    // Other draws at each chunk and turn: an entry that lasts meets new ones.
    let hash = Math.imul(this.#seed ^ 0x9e3779b9, 0x85ebca6b) ^ this.layer;
    hash = Math.imul(hash ^ this.seen, 0xc2b2ae35);
    hash ^= hash >>> 15;
    for (const character of this.#key) hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193);
    const random = new Random(hash >>> 0);
    return () => random.next();
  }
}

/** The same where a page has been filled. */
export class AtFilled extends AtLayer implements FilledLayer {
  readonly #signals: (request: SignalRequest) => Signals;

  constructor(init: ConstructorParameters<typeof AtLayer>[0] & { signals: (request: SignalRequest) => Signals }) {
    super(init);
    this.#signals = init.signals;
  }

  signal<S extends SignalRequest>(request: S): SignalValue<S> {
    return this.#signals(request)(request);
  }
}

/** The same while a prompt is being decided. */
export class AtPrompt extends AtFilled implements PromptLayer {
  readonly rows: number;
  readonly last: boolean;

  constructor(init: ConstructorParameters<typeof AtFilled>[0] & { rows: number; last: boolean }) {
    super(init);
    this.rows = init.rows;
    this.last = init.last;
  }
}

/** A prompt before it is read. */
export class AtText extends AtLayer implements PromptText {
  readonly tokens: ArrayLike<number>;
  readonly start: number;
  readonly tokenize: (text: string) => readonly number[];
  readonly #all: CacheSequence;

  constructor(init: ConstructorParameters<typeof AtLayer>[0] & Pick<PromptText, 'tokens' | 'start' | 'tokenize'>) {
    super(init);
    this.tokens = init.tokens;
    this.start = init.start;
    this.tokenize = init.tokenize;
    this.#all = init.sequence;
  }

  override get segments(): readonly Segment[] {
    return segmentsOf(this.#all, this.tokens.length);
  }
}

export function notSensed(name: string, layer: number): KvasirError {
  return new KvasirError(
    'unsupported',
    `${name} asks for attention at layer ${layer} after the layers of its group have run: the queries are gone`,
    { field: 'kv', value: name, allowed: 'a recipe in which it comes first' },
  );
}
