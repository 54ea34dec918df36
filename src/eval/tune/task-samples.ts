import type { LoadedModel } from '../../engine/loaded-model.ts';
import { createTools, generate, type Sample } from '../tools.ts';
import type { Stretch } from './evaluate.ts';
import type { TunePlan } from './plan.ts';

/** Other instances than those of evaluations with small seeds. */
const SEEDS = { searched: 2_000_003, 'held out': 1_000_003 };

/** Instances of a plan's tasks: one each to search on, `n` to hold the result against. */
export function samplesOf(
  model: LoadedModel,
  { tasks, n, length, books, seed }: TunePlan,
  part: keyof typeof SEEDS,
): [task: string, samples: Sample[]][] {
  if (tasks.length === 0) return [];
  const { tokenizer, info } = model;
  const setup = { tokenizer, chat: info.hasChatTemplate, phrasing: 'training' as const, books };
  const tools = createTools(setup);
  const count = part === 'searched' ? 1 : n;
  return tasks.map(task => [
    task.name,
    Array.from({ length: count }, (_, i) => generate(task, length, SEEDS[part] + seed, i, tools, setup)),
  ]);
}

/** The last question of each instance with the right answer, to be forced. */
export function searchedAnswers(model: LoadedModel, plan: TunePlan): Stretch[] {
  return samplesOf(model, plan, 'searched').flatMap(([, samples]) =>
    samples.map(({ encoded: { turns } }) => ({
      tokens: turns.flatMap(({ prompt, answer }) => [...prompt, ...answer]),
      steps: turns.at(-1)!.answer.length,
    })),
  );
}
