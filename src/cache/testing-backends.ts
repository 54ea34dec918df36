import { Arena } from '../backend/cpu/arena.ts';
import { createKernels } from '../backend/cpu/kernels.ts';
import type { Kernels, Memory } from '../backend/types.ts';
import { PlainKernels, PlainMemory } from './testing.ts';

/** What the tests of this folder run on: the reference executor, and the WASM kernels. */
export const BACKENDS = ['plain', 'wasm'] as const;

export async function openBackend(name: (typeof BACKENDS)[number]): Promise<{ memory: Memory; kernels: Kernels }> {
  if (name === 'wasm') {
    const kernels = await createKernels({ memory: new Arena({ limit: 256 << 20 }), threads: 1 });
    return { memory: kernels.memory, kernels };
  }
  const memory = new PlainMemory(64 << 20);
  return { memory, kernels: new PlainKernels(memory) };
}
