import { KvasirError } from '../errors.ts';
import type { Content } from './content.ts';

/** Sees that a prepared plan is ended once, and applied only to the state that it was made for. */
export class PlanGuard {
  readonly #content: Content;
  readonly #version: number;
  #ended = false;

  constructor(content: Content) {
    this.#content = content;
    this.#version = content.version;
  }

  /** To be called by apply; `discard` is called where the plan is out of date. Raises `invalid_request`. */
  begin(discard: () => void): void {
    if (this.#ended) {
      throw new KvasirError('invalid_request', 'This plan has been applied or discarded.', { field: 'plan' });
    }
    if (this.#content.version !== this.#version || this.#content.freed) {
      discard();
      throw new KvasirError('invalid_request', 'The sequence has changed since the plan was prepared.', {
        field: 'plan',
      });
    }
    this.#ended = true;
  }

  /** To be called by discard: false where there is nothing to discard any more. */
  end(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    return true;
  }
}
