import { availableParallelism, totalmem } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import { MAX_ARENA_BYTES } from '../backend/cpu/arena.ts';
import { denseProvider } from '../backend/cpu/dense/index.ts';
import { createKernels } from '../backend/cpu/kernels.ts';
import { FilePlace } from '../cache/park.node.ts';
import { openModel } from '../model/open.node.ts';
import type { Platform } from './platform.ts';
import { readProfile } from './profile.node.ts';

export function nodePlatform(): Platform {
  return {
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    openModel,
    profile: readProfile,
    parkFile: () => new FilePlace(),
    denseProvider,
    createKernels: ({ threads, limit }) => createKernels({ threads, limit: Math.min(limit, MAX_ARENA_BYTES) }),
    breathe: () => setImmediate(),
  };
}
