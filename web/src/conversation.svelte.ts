import type { FormatName } from '../../src/cache/types.ts';
import type { ChatMessage } from '../../src/model/types.ts';
import { type ChatClient, type Figures, KeyRequired, type Library, type PageModel } from './client.ts';
import { recipeHint } from './recipe.ts';
import { why } from './why.ts';

export interface Turn {
  readonly role: 'user' | 'assistant';
  content: string;
  /** Said beside the message, not to the model. */
  note?: string;
  state: 'done' | 'running' | 'stopped' | 'cut' | 'failed';
  /** Of an answer that came to its end. */
  figures?: Figures;
}

/** Figures of the answer that runs, or of the last one; what is not known yet is null. */
export type Meters = { [K in Exclude<keyof Figures, 'recipe' | 'kept'>]: number | null };

const NOTHING: Meters = {
  promptTokens: null,
  completionTokens: null,
  firstTokenMs: null,
  tokensPerSecond: null,
  cacheBytes: null,
  cachePeak: null,
};
const POLL_MS = 400;
/** Cache readings kept for the curve. */
const HISTORY = 240;

/** The page's state: models, settings, one conversation, and what is measured while it runs. */
export class Conversation {
  readonly client: ChatClient;
  models = $state.raw<readonly PageModel[]>([]);
  library = $state.raw<Library>({ methods: [], measured: null });
  pullCommand = $state<string | null>(null);
  model = $state<string | null>(null);
  loading = $state<{ name: string; fraction: number; what: string } | null>(null);
  keyRequired = $state(false);
  error = $state<string | null>(null);

  system = $state('');
  temperature = $state(0);
  maxTokens = $state(256);
  cache = $state<FormatName>('f32');
  /** The recipe as typed; empty: the model's. */
  kv = $state('');

  /** The message that is being written; of one that got no answer it is the message again. */
  draft = $state('');
  turns = $state<Turn[]>([]);
  meters = $state.raw<Meters>(NOTHING);
  /** Cache bytes over the last answer. */
  history = $state.raw<readonly number[]>([]);
  /** What assistive technology is told. */
  announcement = $state('');
  #running = $state.raw<AbortController | null>(null);

  constructor(client: ChatClient) {
    this.client = client;
  }

  get busy(): boolean {
    return this.#running !== null;
  }

  get recipe() {
    return recipeHint(this.kv, this.library.methods);
  }

  get current(): PageModel | undefined {
    return this.models.find(model => model.name === this.model);
  }

  /** Lists the models and takes the first that is loaded, else the first. */
  async open(): Promise<void> {
    await this.refresh();
    // Without the list recipes are only checked by the engine.
    this.library = await this.client.methods().catch(() => ({ methods: [], measured: null }));
    const first = this.models.find(model => model.state === 'loaded') ?? this.models[0];
    if (this.model === null && first) await this.choose(first.name);
  }

  async choose(name: string): Promise<void> {
    if (this.loading || this.busy) return;
    this.error = null;
    this.loading = { name, fraction: 0, what: 'opening' };
    this.announcement = `Loading ${name}`;
    try {
      await this.client.load(name, progress => {
        this.loading = { name, ...progress };
      });
      this.model = name;
      this.announcement = `${name} is ready`;
    } catch (error) {
      this.#fail(error);
    } finally {
      this.loading = null;
    }
    await this.refresh();
  }

  async send(content: string, note?: string): Promise<void> {
    const model = this.model;
    if (this.busy || this.loading || model === null || content.trim() === '') return;
    this.error = this.recipe.problem && `The recipe does not hold: ${this.recipe.problem}`;
    if (this.error) return;
    this.turns.push({ role: 'user', content, state: 'done', ...(note !== undefined && { note }) });
    const messages = this.#messages();
    this.turns.push({ role: 'assistant', content: '', state: 'running' });
    const turn = this.turns[this.turns.length - 1]!;
    const controller = new AbortController();
    this.#running = controller;
    this.meters = NOTHING;
    this.history = [];
    this.announcement = 'Answering';
    const stopPolling = this.#poll(controller.signal);
    void this.#countPrompt(model, messages, controller.signal);
    try {
      await this.#read(turn, model, messages, controller.signal);
    } catch (error) {
      turn.state = controller.signal.aborted ? 'stopped' : 'failed';
      if (!controller.signal.aborted) {
        this.#fail(error);
        if (this.draft === '') this.draft = content;
      }
    } finally {
      stopPolling();
      // Ends the count of prompt tokens where it is late.
      controller.abort();
      this.#running = null;
      this.announcement = turn.state === 'stopped' ? `Stopped. ${turn.content}` : turn.content;
    }
  }

  stop(): void {
    this.#running?.abort();
  }

  clear(): void {
    this.stop();
    this.turns = [];
    this.error = null;
    this.meters = NOTHING;
    this.history = [];
    this.announcement = 'New chat';
  }

  async #read(turn: Turn, model: string, messages: ChatMessage[], signal: AbortSignal): Promise<void> {
    const begin = performance.now();
    let firstAt = 0;
    let tokens = 0;
    const { temperature, maxTokens, cache } = this;
    const kv = this.kv.trim();
    const ask = { model, messages, temperature, maxTokens, cache, ...(kv !== '' && { kv }) };
    for await (const part of this.client.chat(ask, signal)) {
      const now = performance.now();
      turn.content += part.text;
      if (part.tokens > 0 && tokens === 0) firstAt = now;
      tokens += part.tokens;
      if (part.finishReason) turn.state = part.finishReason === 'length' ? 'cut' : 'done';
      if (part.figures) this.#settle(turn, part.figures);
      else if (tokens > 0) {
        const seconds = (now - firstAt) / 1000;
        this.meters = {
          ...this.meters,
          completionTokens: tokens,
          firstTokenMs: firstAt - begin,
          tokensPerSecond: seconds > 0 && tokens > 1 ? (tokens - 1) / seconds : null,
        };
      }
    }
  }

  /** The engine's own figures replace what was measured here. */
  #settle(turn: Turn, figures: Figures): void {
    turn.figures = figures;
    this.meters = figures;
    this.history = [...this.history, figures.cacheBytes].slice(-HISTORY);
  }

  /** The model's messages: answers that failed or are empty are left out, with the question before them. */
  #messages(): ChatMessage[] {
    const said: ChatMessage[] = [];
    for (const { role, content, state } of this.turns) {
      if (role === 'assistant' && (state === 'failed' || content === '')) said.pop();
      else said.push({ role, content });
    }
    const system = this.system.trim();
    return system === '' ? said : [{ role: 'system', content: system }, ...said];
  }

  async #countPrompt(model: string, messages: ChatMessage[], signal: AbortSignal): Promise<void> {
    const promptTokens = await this.client.countTokens(model, messages).catch(() => null);
    if (!signal.aborted && promptTokens !== null) this.meters = { ...this.meters, promptTokens };
  }

  /** Reads the cache's bytes while an answer runs, one reading at a time. */
  #poll(signal: AbortSignal): () => void {
    let timer = 0;
    const read = async () => {
      const held = await this.client.cacheBytes().catch(() => null);
      if (signal.aborted || stopped) return;
      if (held !== null && held > 0) {
        this.meters = { ...this.meters, cacheBytes: held, cachePeak: Math.max(held, this.meters.cachePeak ?? 0) };
        this.history = [...this.history, held].slice(-HISTORY);
      }
      timer = window.setTimeout(read, POLL_MS);
    };
    let stopped = false;
    timer = window.setTimeout(read, POLL_MS / 4);
    return () => {
      stopped = true;
      window.clearTimeout(timer);
    };
  }

  /** Lists the models again: some may have been pulled meanwhile. */
  async refresh(): Promise<void> {
    try {
      const { models, pullCommand } = await this.client.models();
      this.models = models;
      this.pullCommand = pullCommand;
      this.keyRequired = false;
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (error instanceof KeyRequired) this.keyRequired = true;
    else this.error = why(error);
  }
}
