import type { ModelInfo } from '../../engine/types.ts';
import { type Metadata, metadata } from '../metadata.node.ts';
import type { ScbenchCell, ScbenchPlan } from './run.ts';

/** Everything about one run of SCBench, ready for JSON. */
export function scbenchResult(
  info: ModelInfo,
  plan: ScbenchPlan,
  cells: readonly ScbenchCell[],
  run: Metadata = metadata(),
) {
  const { tasks, caches, ...others } = plan;
  const { name, fingerprint, mode, provider } = info;
  return {
    run,
    model: { name, fingerprint, mode, provider },
    plan: { tasks: tasks.map(task => task.name), caches, ...others },
    cells,
  };
}
