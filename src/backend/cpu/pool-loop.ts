import { JOB_ACTIVE, JOB_ASLEEP, JOB_FAILED, JOB_GENERATION } from '../../../kernels/abi.ts';

/** What a helper thread is given. */
export interface HelperStart {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  /** Addresses of the JOB record and of this thread's work space. */
  readonly job: number;
  readonly scratch: number;
  /** Microseconds to look out for the next job before going to sleep. */
  readonly spin: number;
}

/** What the kernels' module exports. */
export interface KernelExports {
  /** Runs items [from, to) of `kind`. */
  run(kind: number, items: number, from: number, to: number, scratch: number): void;
  /** Claims items of the open job until none is left. */
  work(job: number, scratch: number): void;
  /** Enters (ACTIVE + 1) and works if a job is open; the caller leaves (ACTIVE - 1). */
  help(job: number, scratch: number): void;
}

export function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): KernelExports {
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as KernelExports;
}

/** Polls until `word` differs from `value`, at most `microseconds`; true where it does. */
export function spinWhile(words: Int32Array, word: number, value: number, microseconds: number): boolean {
  if (microseconds <= 0) return Atomics.load(words, word) !== value;
  const end = performance.now() + microseconds / 1000;
  do {
    for (let i = 0; i < 20; i++) {
      if (Atomics.load(words, word) !== value) return true;
      pause();
    }
  } while (performance.now() < end);
  return false;
}

const pause: () => void = (Atomics as unknown as { pause?: () => void }).pause ?? (() => {});

/** Life of a helper thread: sleeps on GENERATION, visits the open job, returns when GENERATION is -1. */
export function helperLoop(start: HelperStart): void {
  const { memory, job, scratch, spin } = start;
  const kernels = instantiate(start.module, memory);
  // A shared buffer stays valid when the memory grows; the job's words lie below any growth.
  const words = new Int32Array(memory.buffer);
  const at = (offset: number): number => (job + offset) / 4;
  const generation = at(JOB_GENERATION);
  let seen = 0;
  for (;;) {
    if (!spinWhile(words, generation, seen, spin)) {
      Atomics.add(words, at(JOB_ASLEEP), 1);
      Atomics.wait(words, generation, seen);
      Atomics.sub(words, at(JOB_ASLEEP), 1);
    }
    seen = Atomics.load(words, generation);
    if (seen === -1) return;
    try {
      kernels.help(job, scratch);
    } catch (error) {
      Atomics.store(words, at(JOB_FAILED), 1);
      leave(words, at(JOB_ACTIVE));
      throw error;
    }
    leave(words, at(JOB_ACTIVE));
  }
}

function leave(words: Int32Array, active: number): void {
  if (Atomics.sub(words, active, 1) === 1) Atomics.notify(words, active);
}
