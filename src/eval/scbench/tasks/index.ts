import { KvasirError } from '../../../errors.ts';
import type { ScbenchTask } from '../types.ts';
import { CHOICE_ENG } from './choice-english.ts';
import { REPOQA } from './functions.ts';
import { REPOQA_AND_KV } from './functions-and-kv.ts';
import { KV } from './kv.ts';
import { MANY_SHOT } from './many-shot.ts';
import { NUMBERS } from './numbers.ts';
import { PREFIX_SUFFIX } from './prefix-suffix.ts';
import { QA_CHN } from './qa-chinese.ts';
import { QA_ENG } from './qa-english.ts';
import { SUMMARY } from './summary.ts';
import { SUMMARY_WITH_NEEDLES } from './summary-with-needles.ts';
import { VARIABLES } from './variables.ts';

/** The twelve tasks of SCBench, in the paper's order. */
export const SCBENCH_TASKS: readonly ScbenchTask[] = [
  KV,
  PREFIX_SUFFIX,
  VARIABLES,
  REPOQA,
  QA_ENG,
  QA_CHN,
  CHOICE_ENG,
  NUMBERS,
  MANY_SHOT,
  SUMMARY,
  SUMMARY_WITH_NEEDLES,
  REPOQA_AND_KV,
];

/** Raises `invalid_request` where there is none of this name. */
export function findScbenchTask(name: string): ScbenchTask {
  const task = SCBENCH_TASKS.find(each => each.name === name);
  if (task) return task;
  const allowed = ['all', ...SCBENCH_TASKS.map(each => each.name)];
  throw new KvasirError('invalid_request', 'no such task', { field: 'tasks', value: name, allowed });
}
