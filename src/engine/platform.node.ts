import { availableParallelism, totalmem } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import { denseProvider } from '../backend/cpu/dense/index.ts';
import { createCpuKernels } from '../backend/cpu/kernels.node.ts';
import { openModel } from '../model/open.ts';
import type { Platform } from './platform.ts';

export function nodePlatform(): Platform {
  return {
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    openModel,
    denseProvider,
    createKernels: createCpuKernels,
    breathe: () => setImmediate(),
  };
}
