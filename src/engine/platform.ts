import type { DenseProvider, Kernels } from '../backend/types.ts';
import type { ParkPlace } from '../cache/park-place.ts';
import type { ModelFile } from '../model/types.ts';
import type { LoadOptions } from './types.ts';

/** What an engine needs from where it runs: Node or a browser. */
export interface Platform {
  readonly cores: number;
  /** Bytes of the machine's memory, or a careful guess. */
  readonly memoryBytes: number;
  readonly cacheDir?: string;
  openModel(path: string): Promise<ModelFile>;
  /** Where parked entries go that are not to stay in memory; absent: nowhere here. */
  parkFile?(): ParkPlace;
  /** A profile file of a model (Method.profile), parsed; undefined where there is none. */
  profile?(path: string, fingerprint: string, kind: string): Promise<unknown>;
  denseProvider(choice: NonNullable<LoadOptions['provider']>): Promise<DenseProvider>;
  createKernels(options: { threads: number; limit: number }): Promise<Kernels>;
  /** Lets timers and messages in between two steps. */
  breathe(): Promise<void>;
}
