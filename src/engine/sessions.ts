import { KvasirError } from '../errors.ts';
import { Session } from './session.ts';

const MOST_SESSIONS = 1024;

/** The open sessions of all models of an engine. */
export class Sessions {
  readonly byId = new Map<string, Session>();
  #next = 1;

  /** A new one's id. Raises `queue_full`. */
  open(model: string): string {
    if (this.byId.size >= MOST_SESSIONS)
      throw new KvasirError('queue_full', `${MOST_SESSIONS} sessions are open already`, {
        field: 'session',
        allowed: `at most ${MOST_SESSIONS}`,
      });
    const id = `session-${this.#next++}`;
    this.byId.set(id, new Session(id, model));
    return id;
  }

  close(id: string): void {
    const session = this.byId.get(id);
    if (!session) return;
    this.byId.delete(id);
    session.close();
  }

  /** The session of a request to a model. Raises `invalid_request`: it is not open, of another model, or busy. */
  forRequest(id: string, model: string): Session {
    const session = this.byId.get(id);
    if (!session || session.model !== model)
      throw new KvasirError('invalid_request', `no session ${JSON.stringify(id)} of model ${model} is open`, {
        field: 'session',
        value: id,
        allowed: 'an id from openSession of the same model',
      });
    if (session.busy)
      throw new KvasirError('invalid_request', `session ${id} is answering another request`, {
        field: 'session',
        value: id,
        allowed: 'one request at a time',
      });
    return session;
  }

  /** The caches of a model's sessions go; the sessions stay open. */
  dropCaches(model: string): void {
    for (const session of this.byId.values()) if (session.model === model) session.drop();
  }
}
