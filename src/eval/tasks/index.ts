import { KvasirError } from '../../errors.ts';
import { COPY } from './copy.ts';
import { FREQUENT } from './frequent.ts';
import { GAPS } from './gaps.ts';
import { JSON_LOOKUP } from './json.ts';
import { LABELS } from './labels.ts';
import { NIAH } from './niah.ts';
import { NUMBERS } from './numbers.ts';
import { PASSKEY } from './passkey.ts';
import { PEOPLE } from './people.ts';
import { REGISTER } from './registers.ts';
import { STRINGS } from './strings.ts';
import type { Task } from './types.ts';
import { VARIABLES } from './variables.ts';

/** All tasks; those in which the bundled model is reliable come first. */
export const TASKS: readonly Task[] = [
  ...NIAH,
  PASSKEY,
  JSON_LOOKUP,
  ...VARIABLES,
  PEOPLE,
  REGISTER,
  STRINGS,
  COPY,
  NUMBERS,
  LABELS,
  GAPS,
  FREQUENT,
];

/** Those that the bundled model masters with the full cache up to 4,096 tokens: what a damaged cache shows in. */
export const STRONG: readonly Task[] = [...NIAH, PASSKEY, JSON_LOOKUP, ...VARIABLES, PEOPLE, REGISTER, STRINGS];

/** Raises `invalid_request` where there is none of this name. */
export function findTask(name: string): Task {
  return pick(name, []);
}

/**
 * Tasks by name; `strong` and `all` stand for several.
 * @param others names that mean something else to the caller, for the error
 */
export function findTasks(names: readonly string[], others: readonly string[] = []): Task[] {
  const groups: Readonly<Record<string, readonly Task[]>> = { strong: STRONG, all: TASKS };
  const known = [...Object.keys(groups), ...others];
  return [...new Set(names.flatMap(name => (Object.hasOwn(groups, name) ? groups[name]! : pick(name, known))))];
}

function pick(name: string, others: readonly string[]): Task {
  const task = TASKS.find(each => each.name === name);
  if (task) return task;
  const allowed = [...others, ...TASKS.map(each => each.name)];
  throw new KvasirError('invalid_request', 'no such task', { field: 'tasks', value: name, allowed });
}
