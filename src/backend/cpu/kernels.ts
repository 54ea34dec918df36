import {
  JOB_ACTIVE,
  JOB_ASLEEP,
  JOB_BYTES,
  JOB_COUNT,
  JOB_FAILED,
  JOB_GENERATION,
  JOB_ITEMS,
  JOB_KIND,
  JOB_NEXT,
  JOB_OPEN,
  SCRATCH_BYTES,
} from '../../../kernels/abi.ts';
import { KvasirError } from '../../errors.ts';
import type { Kernels } from '../types.ts';
import { Arena } from './arena.ts';
import { estimate } from './cost.ts';
import { type Helper, startHelper } from './pool.ts';
import { instantiate, type KernelExports, spinWhile } from './pool-loop.ts';
import { bestVariant, type KernelVariant, kernelModule } from './wasm.ts';

/** Work below this many microseconds is not worth waking a thread for. */
const WORTH_SHARING = 30;
/** How long the caller polls for the helpers' last items before it sleeps. */
const CALLER_SPIN = 100;
/**
 * How long an idle helper looks out for the next job before it sleeps. Waking one costs 5 us to the caller and 10 to 20 us
 * until it works; polling through the gap between two layers (300 us) would save that, but would keep a core busy that dense
 * math wants. 20 us only bridges jobs that follow one another.
 */
const HELPER_SPIN = 20;
/** A job in which nothing moves for so long is given up. */
const STALLED_MS = 60_000;

export interface KernelsOptions {
  /** The memory to work on; else a new one of `limit` bytes. */
  readonly memory?: Arena;
  readonly limit?: number;
  /** Threads, the caller's included; 1 where the memory is not shared. Default 1. */
  readonly threads?: number;
  /** Default: the fastest that runs here. */
  readonly variant?: KernelVariant;
  /** Microseconds an idle helper polls before it sleeps. */
  readonly spin?: number;
}

/** Kernels in WASM: the calling thread works, helped by `threads` - 1 threads that share the memory. */
export async function createKernels(options: KernelsOptions = {}): Promise<CpuKernels> {
  const threads = options.threads ?? 1;
  if (!Number.isInteger(threads) || threads < 1 || threads > 64) {
    throw new KvasirError('invalid_request', `${threads} threads cannot run the kernels`, {
      field: 'threads',
      value: threads,
      allowed: '1 to 64',
    });
  }
  const memory = options.memory ?? new Arena({ limit: options.limit ?? 2 ** 30 });
  const variant = options.variant ?? (await bestVariant(memory.shared));
  const module = await kernelModule(variant);
  const kernels = new CpuKernels(memory, module, variant);
  try {
    await kernels.addHelpers(memory.shared ? threads - 1 : 0, module, options.spin ?? HELPER_SPIN);
  } catch (error) {
    await kernels.dispose();
    throw KvasirError.from(error);
  }
  return kernels;
}

export class CpuKernels implements Kernels {
  readonly memory: Arena;
  readonly variant: KernelVariant;
  readonly #exports: KernelExports;
  readonly #job: number;
  readonly #scratch: number[] = [];
  readonly #helpers: Helper[] = [];
  #failure: KvasirError | undefined;
  #disposed = false;

  constructor(memory: Arena, module: WebAssembly.Module, variant: KernelVariant) {
    this.memory = memory;
    this.variant = variant;
    this.#exports = instantiate(module, memory.memory);
    this.#job = memory.alloc(JOB_BYTES);
    memory.u8.fill(0, this.#job, this.#job + JOB_BYTES);
    this.#scratch.push(memory.alloc(SCRATCH_BYTES));
  }

  get threads(): number {
    return this.#helpers.length + 1;
  }

  async addHelpers(count: number, module: WebAssembly.Module, spin: number): Promise<void> {
    const { memory } = this.memory;
    const onEnd = (error: KvasirError) => {
      if (!this.#disposed) this.#failure ??= error;
    };
    for (let i = 0; i < count; i++) {
      const scratch = this.memory.alloc(SCRATCH_BYTES);
      this.#scratch.push(scratch);
      this.#helpers.push(await startHelper({ module, memory, job: this.#job, scratch, spin }, onEnd));
    }
    await Promise.all(this.#helpers.map(helper => helper.ready));
  }

  run(kind: number, items: number, count: number): void {
    if (this.#disposed) throw new KvasirError('disposed', 'The kernels were disposed of');
    if (this.#failure) throw this.#failure;
    if (count <= 0) return;
    const { i32 } = this.memory;
    const alone =
      count === 1 || this.#helpers.length === 0 || estimate(i32, kind, items, count, WORTH_SHARING) < WORTH_SHARING;
    try {
      if (alone) this.#exports.run(kind, items, 0, count, this.#scratch[0]!);
      else this.#share(i32, kind, items, count);
    } catch (error) {
      throw KvasirError.from(error);
    }
  }

  #share(i32: Int32Array, kind: number, items: number, count: number): void {
    const job = this.#job / 4;
    i32[job + JOB_KIND / 4] = kind;
    i32[job + JOB_COUNT / 4] = count;
    i32[job + JOB_ITEMS / 4] = items;
    Atomics.store(i32, job + JOB_NEXT / 4, 0);
    Atomics.store(i32, job + JOB_OPEN / 4, 1);
    this.#announce((i32[job + JOB_GENERATION / 4]! + 1) & 0x3fffffff, count - 1);
    try {
      this.#exports.work(this.#job, this.#scratch[0]!);
    } finally {
      // No helper enters once OPEN is 0, so when ACTIVE is 0 every claimed item is done.
      Atomics.store(i32, job + JOB_OPEN / 4, 0);
      this.#awaitHelpers(i32, job + JOB_ACTIVE / 4, job + JOB_NEXT / 4);
    }
    if (Atomics.load(i32, job + JOB_FAILED / 4) !== 0) {
      this.#failure ??= new KvasirError('backend_failed', 'A helper thread failed inside a kernel');
      throw this.#failure;
    }
  }

  #announce(generation: number, most: number): void {
    const { i32 } = this.memory;
    const job = this.#job / 4;
    Atomics.store(i32, job + JOB_GENERATION / 4, generation);
    if (Atomics.load(i32, job + JOB_ASLEEP / 4) > 0) Atomics.notify(i32, job + JOB_GENERATION / 4, most);
  }

  #awaitHelpers(i32: Int32Array, active: number, next: number): void {
    let moved = performance.now();
    let before = -1;
    for (;;) {
      const inside = Atomics.load(i32, active);
      if (inside === 0 || spinWhile(i32, active, inside, CALLER_SPIN)) {
        if (inside === 0) return;
        continue;
      }
      Atomics.wait(i32, active, inside, 1000);
      const now = performance.now();
      const claimed = Atomics.load(i32, next);
      if (claimed !== before || Atomics.load(i32, active) !== inside) {
        before = claimed;
        moved = now;
      } else if (now - moved > STALLED_MS) {
        this.#failure = new KvasirError('backend_failed', `A helper thread did not finish in ${STALLED_MS} ms`);
        throw this.#failure;
      }
    }
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#announce(-1, this.#helpers.length);
    await Promise.all(this.#helpers.map(helper => helper.stop()));
    for (const scratch of this.#scratch) this.memory.free(scratch, SCRATCH_BYTES);
    this.memory.free(this.#job, JOB_BYTES);
  }
}
