import { PAGE_TOKENS } from '../../../kernels/abi.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import type { SignalRequest, StepRule } from '../../methods/types.ts';
import type { ModelConfig } from '../../model/types.ts';
import type { Forward } from '../forward.ts';
import { Retrieval } from '../retrieve/retrieval.ts';
import type { RotaryTable } from '../rotary.ts';
import { embedPassages } from '../sense/passages.ts';
import { isLate, isOfProbe, isOfRows } from '../sense/requests.ts';
import type { HiddenRows, QueryRows, Sensor, Signals } from '../sense/sensor.ts';
import type { QueryRow, StepHooks } from '../work.ts';
import { act } from './act.ts';
import { AtFilled, AtLayer, AtPrompt, AtText, notSensed } from './at.ts';
import { Probes } from './probes.ts';
import type { Program } from './program.ts';
import { holdsAt, ruleNeedsAttention, StepEvaluation } from './step.ts';

/** What a prompt leaves behind at a layer, while it is being decided. */
export interface SettledRows {
  readonly queries: QueryRows | null;
  readonly hidden: HiddenRows;
  readonly rows: number;
  /** The prompt's last chunk. */
  readonly last: boolean;
  /** By part of the recipe: queries of its probe. */
  readonly probes?: ReadonlyMap<number, QueryRows>;
}

/** What the model's forward pass lends to a run. */
export interface RunContext {
  readonly sensor: Sensor;
  readonly ropes: readonly RotaryTable[];
  readonly config: ModelConfig;
}

/** Kept as the sequence's state, so that it forks with it. */
interface RunState {
  /** Tokens seen, kept or not. */
  seen: number;
  /** [parts][layers] */
  rules: (StepRule | null)[][];
  cursors: Int32Array;
}

const STATE = 'run';

/** After a sequence in which every token has its entries was cut back: as many have been seen as are left. */
export function recount(sequence: CacheSequence): void {
  const state = sequence.state<RunState>(STATE);
  if (state) sequence.setState(STATE, { ...state, seen: sequence.position });
}

/** A recipe at work on one sequence: decides after each layer of a prompt and around each step of decoding. */
export class Run implements StepHooks {
  readonly program: Program;
  readonly sequence: CacheSequence;
  readonly #context: RunContext;
  readonly #seed: number;
  /** By part: the first layer that it has not decided. */
  readonly #decided: number[];
  /** By layer: 1 where the last step filled a page. */
  readonly #filled: Uint8Array;
  readonly #evaluation: StepEvaluation;
  /** What chooses what is read; null where everything is. */
  readonly retrieval: Retrieval | null;

  constructor(program: Program, sequence: CacheSequence, context: RunContext, seed: number) {
    this.program = program;
    this.sequence = sequence;
    this.#context = context;
    this.#seed = seed;
    this.#decided = program.parts.map(() => 0);
    this.#filled = new Uint8Array(program.model.layers);
    this.#evaluation = new StepEvaluation(sequence, program.model.group);
    const { layers, kvHeads } = context.config;
    const none = () => Array.from({ length: layers }, () => null);
    const state = sequence.state<RunState>(STATE);
    if (state) {
      // A recipe with more methods goes on from one with fewer.
      if (state.rules.length < program.parts.length)
        sequence.setState(STATE, { ...state, rules: program.parts.map((_, n) => state.rules[n] ?? none()) });
    } else {
      sequence.setState(STATE, {
        seen: sequence.position,
        rules: program.parts.map(none),
        cursors: new Int32Array(layers * kvHeads),
      } satisfies RunState);
    }
    const rules = program.retrieval;
    this.retrieval = rules && new Retrieval(rules, sequence, context);
  }

  /** The same recipe on a fork of the sequence, whose states have been cloned. */
  fork(sequence: CacheSequence, seed: number): Run {
    return new Run(this.program, sequence, this.#context, seed);
  }

  get seen(): number {
    return this.#state.seen;
  }

  /** Whether rows of decoding have to ask before and after attention. */
  get stepwise(): boolean {
    return this.retrieval !== null || this.#state.rules.some(rules => rules.some(Boolean));
  }

  /** Rows of decoding that may run together before a method acts: until the first page of any view is full, or one by one. */
  get together(): number {
    if (this.stepwise) return 1;
    const { layers, kvHeads } = this.program.model;
    let room = PAGE_TOKENS;
    for (let layer = 0; layer < layers; layer++)
      for (let head = 0; head < kvHeads; head++)
        room = Math.min(room, PAGE_TOKENS - (this.sequence.entries(layer, head) % PAGE_TOKENS));
    return room;
  }

  /** Rows of a prompt (chunk) of `rows` whose queries will be asked about at a layer. */
  queryRows(layer: number, rows: number): Uint32Array {
    return this.program.queryRows(layer, rows, this.#seed);
  }

  /**
   * Before a prompt is read: what its methods want to run beside it; null where none does.
   * @param tokens all of the sequence's, the prompt's from `start` on
   */
  async probes(forward: Forward, tokens: ArrayLike<number>, start: number): Promise<Probes | null> {
    const texts = new Map<number, ArrayLike<number>>();
    const { tokenize } = this.program;
    for (const [n, { policy }] of this.program.parts.entries()) {
      if (!policy.probe) continue;
      const at = new AtText({ ...this.#at(n, 0), tokens, start, tokenize });
      const embeddings = await embedPassages(forward, tokens, policy.passages?.(at) ?? []);
      const text = policy.probe(at, embeddings);
      at.settleState();
      if (text && text.length > 0) texts.set(n, text);
    }
    return texts.size > 0 ? new Probes(forward, this.sequence, texts) : null;
  }

  /** A chunk of a prompt begins: `rows` tokens will have been seen at its end. */
  beginChunk(rows: number): void {
    this.#state.seen += rows;
    this.#decided.fill(0);
  }

  /** All rows of the chunk have run through `layer`: every method decides what it can. Returns the rows that go on, null: all. */
  settle(layer: number, rows: SettledRows): Uint32Array | null {
    const question = rows.probes?.get(this.program.reader);
    if (question) this.retrieval?.question(layer, question);
    let kept: Uint32Array | null = null;
    let ready = layer;
    for (const [n, { policy }] of this.program.parts.entries()) {
      const first = this.#decided[n]!;
      for (let at = first; at <= ready; at++) kept = this.#decide(n, at, layer, rows) ?? kept;
      this.#decided[n] = Math.max(first, ready + 1);
      if (!policy.settles) continue;
      let settled = -1;
      while (settled < ready && policy.settles(settled + 1) <= ready) settled++;
      ready = settled;
    }
    return kept;
  }

  /** The whole prompt has been decided: the rules of decoding are set. */
  endPrompt(): void {
    const state = this.#state;
    const { layers, kvHeads } = this.program.model;
    for (const [n, { policy }] of this.program.parts.entries())
      for (let layer = 0; layer < layers; layer++) {
        const rule = policy.step?.(layer, new AtLayer(this.#at(n, layer))) ?? null;
        state.rules[n]![layer] = rule;
        if (rule?.evict?.cursors) state.cursors.set(rule.evict.cursors, layer * kvHeads);
      }
    this.sequence.setState(STATE, state);
    this.retrieval?.endPrompt();
  }

  beforeAttention(layer: number, { address, row, position }: QueryRow): void {
    const { heads, headDim } = this.#context.config;
    const from = address + row * heads * headDim * 4;
    this.retrieval?.step(layer, { address: from, rows: 1, position: () => position });
  }

  readsPart(layer: number): boolean {
    return this.retrieval?.readsPart(layer) ?? false;
  }

  writeRefs(layer: number, head: number, address: number): number {
    return this.retrieval!.writeRefs(layer, head, address);
  }

  afterAttention(layer: number, query: QueryRow): void {
    // The row of this step is counted once all layers have run.
    const { rules, cursors, seen: before } = this.#state;
    const seen = before + 1;
    let holds = false;
    let looks = false;
    for (const byLayer of rules) {
      const rule = byLayer[layer];
      if (!rule || !holdsAt(rule, seen)) continue;
      holds = true;
      looks ||= ruleNeedsAttention(rule);
    }
    if (!holds) return;
    const attention = looks ? this.#context.sensor.step(this.sequence, layer, query, query.position) : null;
    this.#evaluation.begin(layer, attention, cursors, seen);
    for (const byLayer of rules) {
      const rule = byLayer[layer];
      if (rule && holdsAt(rule, seen)) this.#evaluation.run(rule);
    }
  }

  /** Rows (one, where rows of decoding are looked at) have gone through all layers. Pages that the last of them filled are decided. */
  afterStep(rows = 1): void {
    const state = this.#state;
    state.seen += rows;
    // The cache forgets it of all layers as soon as one of them is acted on.
    for (let layer = 0; layer < this.#filled.length; layer++)
      this.#filled[layer] = this.sequence.justFilled(layer) ? 1 : 0;
    for (const [n, { policy }] of this.program.parts.entries()) {
      if (!policy.filled) continue;
      for (let layer = 0; layer < this.program.model.layers; layer++) {
        if (this.#filled[layer] === 0) continue;
        const point = { sequence: this.sequence, layer, queries: null, hidden: null };
        const signals = (request: SignalRequest) => this.#context.sensor.answer(point, [request]);
        const at = new AtFilled({ ...this.#at(n, layer), signals });
        const actions = policy.filled(at);
        at.settleState();
        act(this.sequence, actions, this.#ropeOf);
      }
    }
  }

  readonly #ropeOf = (layer: number): RotaryTable => this.#context.ropes[this.#context.config.layerRope[layer]!]!;

  get #state(): RunState {
    return this.sequence.state<RunState>(STATE)!;
  }

  #at(n: number, layer: number) {
    const { name } = this.program.parts[n]!;
    const { sequence } = this;
    return { sequence, model: this.program.model, layer, seen: this.seen, key: `${n}:${name}`, seed: this.#seed };
  }

  #decide(n: number, layer: number, run: number, rows: SettledRows): Uint32Array | null {
    const { policy, name } = this.program.parts[n]!;
    if (!policy.decide) return null;
    const asked = policy.sense?.(layer) ?? [];
    if (layer !== run && asked.some(isOfRows)) throw notSensed(name, layer);
    const { sensor } = this.#context;
    const point = { sequence: this.sequence, layer, queries: rows.queries, hidden: rows.hidden, seed: this.#seed };
    let known: Signals | null = null;
    let ofProbe: Signals | null = null;
    const signals = (request: SignalRequest) => {
      if (isLate(request)) return sensor.answer(point, [request]);
      if (isOfProbe(request)) {
        ofProbe ??= sensor.answer({ ...point, queries: rows.probes?.get(n) ?? null }, asked.filter(isOfProbe));
        return ofProbe;
      }
      known ??= sensor.answer(
        point,
        asked.filter(other => !isOfProbe(other)),
      );
      return known;
    };
    const at = new AtPrompt({ ...this.#at(n, layer), rows: rows.rows, last: rows.last, signals });
    const actions = policy.decide(at);
    at.settleState();
    return act(this.sequence, actions, this.#ropeOf);
  }
}
