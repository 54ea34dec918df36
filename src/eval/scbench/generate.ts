import { KvasirError } from '../../errors.ts';
import { Draw, hash } from '../draw.ts';
import type { ScbenchSession, ScbenchTask, ScbenchTools } from './types.ts';

/** Seeds of one never make a session of the other: settings are chosen on `tune` and reported on `test`. */
export const SPLITS = ['test', 'tune'] as const;
export type Split = (typeof SPLITS)[number];

/** Redraws of a session that does not fit. */
const TRIES = 20;

export interface SessionKey {
  readonly split: Split;
  /** Tokens of the shared context, the chat template's included. */
  readonly length: number;
  readonly seed: number;
  readonly index: number;
}

/**
 * A session of a task: the same for the same key and tokenizer, whatever else is run.
 * @param overhead tokens that the template puts before the context
 * Raises `invalid_request` where the length is too short for the task.
 */
export function generateSession(
  task: ScbenchTask,
  { split, length, seed, index }: SessionKey,
  tools: ScbenchTools,
  overhead = 0,
): ScbenchSession {
  const id = `${split}/${task.name}/${length}/${seed}/${index}`;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const session = task.generate(new Draw(`scbench/${id}/${attempt}`), length - overhead, tools);
    if (session) return { id, ...session };
  }
  throw new KvasirError('invalid_request', `task ${task.name} does not fit a context of ${length} tokens`, {
    field: 'lengths',
    value: length,
    allowed: 'a greater length',
  });
}

/** Any change of what a task's generator makes changes these eight hex digits, which stand beside each of its scores. */
export function generatorHash(task: ScbenchTask): string {
  const count = (text: string) => Math.ceil(text.length / 3);
  const sessions = (['training', 'natural'] as const).flatMap(phrasing =>
    [0, 1, 2].map(index => generateSession(task, { split: 'tune', length: 1500, seed: 0, index }, { phrasing, count })),
  );
  return (hash(JSON.stringify(sessions)) % 2 ** 32).toString(16).padStart(8, '0');
}
