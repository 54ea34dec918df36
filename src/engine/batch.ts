import type { Answer } from './answer.ts';
import type { Forward } from './forward.ts';
import type { Request } from './request.ts';
import type { LogitSink, StepHooks, Work } from './work.ts';

interface DecodeWork extends Work {
  from: number;
  position: number;
  hooks?: StepHooks;
  request: Request;
  answer: Answer;
}

/** What a token-major step came to. */
export interface BatchResult {
  /** Requests whose rows, or those of one of their answers, failed. */
  readonly failed: ReadonlyMap<Request, unknown>;
  /** Requests all of whose rows have gone through all layers. */
  readonly passed: ReadonlySet<Request>;
}

export type Stepped = (request: Request, answer: Answer | undefined, logits: Float32Array) => void;

/** The works of token-major steps: one row of every answer that is being decoded, beside one tile of one prompt. */
export class Batch {
  readonly #forward: Forward;
  readonly #tile: number;
  readonly #decodes = new Map<Answer, DecodeWork>();

  constructor(forward: Forward, tile: number) {
    this.#forward = forward;
    this.#tile = tile;
  }

  /** The answers of a request are decoded from the next step on. */
  add(request: Request): void {
    for (const answer of request.answers) {
      const { sequence, tokens } = answer;
      this.#decodes.set(answer, { sequence, tokens, from: 0, rows: 1, position: 0, logits: 'last', request, answer });
    }
  }

  remove(request: Request): void {
    for (const answer of request.answers) this.#decodes.delete(answer);
  }

  /** The next row of every answer whose reader keeps up. */
  decodes(running: readonly Request[]): Work[] {
    const works: Work[] = [];
    for (const request of running) {
      if (request.parts.full) continue;
      for (const answer of request.answers) {
        if (answer.finish || works.length >= this.#tile) continue;
        const work = this.#decodes.get(answer)!;
        work.from = answer.tokens.length - 1;
        work.position = request.prompt.length + work.from;
        if (answer.run?.stepwise) work.hooks = answer.run;
        works.push(work);
      }
    }
    return works;
  }

  /** The next rows of a prompt beside `others` rows; null: no room is left. */
  promptTile(request: Request, others: number): Work | null {
    const rows = Math.min(this.#tile - others, request.prompt.length - request.done);
    if (rows <= 0) return null;
    const last = request.done + rows === request.prompt.length;
    return {
      sequence: request.sequence!,
      tokens: request.prompt,
      from: request.done,
      rows,
      position: request.done,
      logits: last ? 'last' : 'none',
    };
  }

  /**
   * One step of several works. What goes wrong with one fails its request; the others go on.
   * @param prefill whose prompt's tile is the last of the works
   * @param stepped takes the logits after the last row of an answer; no answer: of the prompt
   */
  async step(works: readonly Work[], prefill: Request | null, stepped: Stepped): Promise<BatchResult> {
    const failed = new Map<Request, unknown>();
    const requestOf = (work: Work) => (work as Partial<DecodeWork>).request ?? prefill!;
    const fail = (work: Work, error: unknown) => {
      if (!failed.has(requestOf(work))) failed.set(requestOf(work), error);
    };
    const attempt = (work: Work, run: () => void) => {
      if (failed.has(requestOf(work))) return;
      try {
        run();
      } catch (error) {
        fail(work, error);
      }
    };
    for (const work of works) if (!work.hooks) attempt(work, () => work.sequence.prepareAppend(work.rows));
    const ready = works.filter(work => !failed.has(requestOf(work)));
    try {
      const sink: LogitSink = (work, _row, logits) =>
        attempt(work, () => stepped(requestOf(work), (work as Partial<DecodeWork>).answer, logits));
      if (ready.length > 0) await this.#forward.step(ready, sink, fail);
    } catch (error) {
      for (const work of ready) fail(work, error);
    }
    const passed = new Set(ready.map(requestOf));
    for (const request of failed.keys()) passed.delete(request);
    return { failed, passed };
  }
}
