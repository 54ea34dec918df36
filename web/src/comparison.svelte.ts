import type { LiveRow } from '../../src/eval/live.ts';
import { recipeLines } from '../../src/methods/recipe-lines.ts';
import type { ChatClient } from './client.ts';
import { passkey } from './prompts.ts';
import { why } from './why.ts';

/** Recipes that a comparison begins with, beside the one to be tried. */
const BESIDE = ['random(keep=0.25)', 'kivi(bits=4)'];

const START = ['snapkv(keep=0.25, width=15)', ...BESIDE].join('\n');

/** Where what is asked is kept for as long as the page's tab lives. */
const KEPT = 'kvasir-comparison';

interface Asked {
  readonly text: string;
  readonly question: string;
  readonly recipes: string;
  readonly maxTokens: number;
}

/** One comparison: what is asked, how far it is, and its rows so far. */
export class Comparison {
  readonly #client: ChatClient;
  text = $state('');
  question = $state('');
  /** One a line. */
  recipes = $state(START);
  maxTokens = $state(48);
  rows = $state.raw<readonly LiveRow[]>([]);
  promptTokens = $state<number | null>(null);
  /** Rows that the run was to have; 0 until it says so. */
  planned = $state(0);
  /** Whether the last run was stopped before its end. */
  stopped = $state(false);
  progress = $state.raw<{ recipe: string; done: number; total: number } | null>(null);
  error = $state<string | null>(null);
  #sampled = $state('');
  #running = $state.raw<AbortController | null>(null);

  constructor(client: ChatClient) {
    this.#client = client;
    const { text, question, recipes, maxTokens } = kept();
    if (typeof text === 'string') this.text = text;
    if (typeof question === 'string') this.question = question;
    if (typeof recipes === 'string') this.recipes = recipes;
    if (typeof maxTokens === 'number') this.maxTokens = maxTokens;
  }

  /** Keeps what is asked over a reload; a text that the browser has no room for is lost then. */
  keep(): void {
    const { text, question, recipes, maxTokens } = this;
    try {
      sessionStorage.setItem(KEPT, JSON.stringify({ text, question, recipes, maxTokens }));
    } catch {
      sessionStorage.removeItem(KEPT);
    }
  }

  get busy(): boolean {
    return this.#running !== null;
  }

  get list(): string[] {
    return recipeLines(this.recipes);
  }

  /** Puts a recipe first, unless it is there. */
  try(recipe: string): void {
    if (recipe === '' || this.busy || this.list.includes(recipe)) return;
    const others = this.recipes === START ? BESIDE : this.list;
    this.recipes = [recipe, ...others].join('\n');
  }

  /** A text that no sample may take the place of. */
  get ownText(): boolean {
    return this.text.trim() !== '' && this.text !== this.#sampled;
  }

  /** A text with something to find, for those who have none at hand. */
  sample(): void {
    const { text } = passkey(1500);
    const at = text.lastIndexOf('\n\n');
    this.#sampled = text.slice(0, at);
    this.text = this.#sampled;
    this.question = text.slice(at).trim();
  }

  async run(model: string): Promise<void> {
    if (this.busy) return;
    this.error = null;
    const text = this.text.trim();
    if (text === '') this.error = 'Give a text, or take the sample.';
    else if (this.list.length === 0) this.error = 'Give at least one recipe, one a line.';
    if (this.error) return;
    const content = [text, this.question.trim()].filter(part => part !== '').join('\n\n');
    const controller = new AbortController();
    this.#running = controller;
    this.rows = [];
    this.promptTokens = null;
    this.planned = 0;
    this.stopped = false;
    const ask = {
      model,
      messages: [{ role: 'user' as const, content }],
      recipes: this.list,
      maxTokens: this.maxTokens,
    };
    try {
      for await (const event of this.#client.compare(ask, controller.signal)) {
        if (event.type === 'begin') {
          this.promptTokens = event.promptTokens;
          this.planned = event.recipes.length;
        } else if (event.type === 'step') this.progress = event;
        else this.rows = [...this.rows, event.row];
      }
    } catch (error) {
      if (!controller.signal.aborted) this.error = why(error);
    } finally {
      this.stopped = controller.signal.aborted;
      this.#running = null;
      this.progress = null;
    }
  }

  stop(): void {
    this.#running?.abort();
  }
}

function kept(): Partial<Asked> {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? '{}') as Partial<Asked>;
  } catch {
    return {};
  }
}
