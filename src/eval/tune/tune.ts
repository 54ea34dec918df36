import type { LoadedModel } from '../../engine/loaded-model.ts';
import { formatRecipe, parseRecipe } from '../../methods/recipe.ts';
import type { Pause } from '../feed.ts';
import { Evaluator, windowsIn } from './evaluate.ts';
import { checkTune, type TunePlan } from './plan.ts';
import { type Found, goalNotMet, search } from './search.ts';
import { searchedAnswers } from './task-samples.ts';
import { type Verdict, verify } from './verify.ts';

export interface TuneResult {
  /** Names the model where it holds widths of its layers, so that another model refuses it. */
  readonly recipe: string;
  readonly found: Found;
  readonly verdict: Verdict;
  /** Bytes of the full f32 cache, as measured in the search. */
  readonly full: number;
  /** Windows of text that were searched on, and held out: those asked for, or as many as the texts have room for. */
  readonly windows: { readonly searched: number; readonly heldOut: number };
}

export interface TuneEvents {
  onProgress?(what: string, done: number, total: number): void;
  readonly pause?: Pause;
}

/**
 * KVTuner (arXiv 2502.04420) widened to whole recipes: finds the one that loses least within a limit of bytes, or holds least while it
 * agrees enough, and holds it against single methods on text and tasks that the search has not seen.
 * @throws KvasirError `invalid_request` where no recipe that was tried meets the goal
 */
export async function tune(model: LoadedModel, plan: TunePlan, events: TuneEvents = {}): Promise<TuneResult> {
  checkTune(plan, model);
  const { length, steps, windows, heldOut, texts } = plan;
  const cut = (text: string, count: number, what: string) =>
    windowsIn(model.tokenizer.encode(text, { addBos: true }), length + steps, count, what);
  const [searched, held] = [
    cut(texts.search, windows, 'text to search on'),
    cut(texts.heldOut, heldOut, 'text held out'),
  ];
  const progress = (what: string, done: number, total: number) => events.onProgress?.(what, done, total);
  const pause = events.pause && { pause: events.pause };
  using evaluator = await Evaluator.open(model, searched, steps, { tasks: searchedAnswers(model, plan), ...pause });
  const found = await search(evaluator, plan, model.shape.layers, progress);
  if (!found.best) throw goalNotMet(plan, evaluator.all);
  using other = await Evaluator.open(model, held, steps, pause);
  const verdict = await verify(model, other, found.best.recipe, plan, progress, events.pause);
  return {
    recipe: named(found.best.recipe, model.shape.fingerprint),
    found,
    verdict,
    full: evaluator.all.find(({ recipe }) => recipe === 'full')!.held,
    windows: { searched: searched.length, heldOut: held.length },
  };
}

export function named(recipe: string, fingerprint: string): string {
  const steps = parseRecipe(recipe).map(step =>
    step.method === 'kvtuner' && String(step.pairs).includes(' ') ? { ...step, model: fingerprint.slice(0, 16) } : step,
  );
  return formatRecipe(steps);
}
