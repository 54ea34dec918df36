import type { ModelInfo } from '../../engine/types.ts';
import { type Metadata, metadata } from '../metadata.node.ts';
import { modelOf } from '../result.node.ts';
import type { ScbenchCell, ScbenchPlan } from './run.ts';

/** Everything about one run of SCBench, ready for JSON. */
export function scbenchResult(
  info: ModelInfo,
  plan: ScbenchPlan,
  cells: readonly ScbenchCell[],
  run: Metadata = metadata(),
) {
  const { tasks, caches, ...others } = plan;
  return {
    run,
    model: modelOf(info),
    plan: { tasks: tasks.map(task => task.name), caches, ...others },
    cells,
  };
}
