import { buildKernels } from '../scripts/build-kernels.ts';

/** The tests run the real kernels: build them where they are older than their sources. */
export default async function setup(): Promise<void> {
  await buildKernels();
}
