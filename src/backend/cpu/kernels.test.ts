import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { ATTEND_BYTES, KIND_ATTEND } from '../../../kernels/abi.ts';
import { ALL, prepare, type Ref, results, sameBits, writeAttend } from '../../../test/helpers/attention.ts';
import { Scene } from '../../../test/helpers/scene.ts';
import type { KvasirError } from '../../errors.ts';
import { Arena } from './arena.ts';
import { type CpuKernels, createKernels, type KernelsOptions } from './kernels.ts';

const open: CpuKernels[] = [];
afterEach(async () => {
  for (const kernels of open.splice(0)) await kernels.dispose();
});

async function create(options: KernelsOptions): Promise<CpuKernels> {
  const kernels = await createKernels({ limit: 2 ** 28, ...options });
  open.push(kernels);
  return kernels;
}

/** Many records of one prompt, a few rows each; run `times` times, the results read after each. */
function prompt(kernels: CpuKernels, count: number, times: number): Float32Array[] {
  const scene = new Scene(kernels, 64, [{ k: 'f32', v: 'int8' }], 7);
  const refs: Ref[] = [];
  for (let from = 0; from < count; from += 64) {
    const positions = Array.from({ length: Math.min(64, count - from) }, (_, i) => from + i);
    refs.push({ page: scene.page({ layout: 0, positions }), first: 0, count: positions.length, shift: 0, mask: ALL });
  }
  const positions = Array.from({ length: count }, (_, i) => i);
  const queries = { q: scene.normals(count * 3 * 64), positions, group: 3, scale: 0.125, window: 0 };
  const whole = prepare(scene, refs, queries);
  const step = 8;
  const items = Math.ceil(count / step);
  const at = scene.alloc(items * ATTEND_BYTES);
  for (let i = 0; i < items; i++) {
    const from = i * step;
    const rows = positions.slice(from, from + step);
    const turns = prepare(scene, refs, { ...queries, positions: rows }).turns;
    const offset = from * 3 * 64 * 4;
    writeAttend(scene, at + i * ATTEND_BYTES, {
      ...whole,
      queries: { ...queries, positions: rows },
      turns,
      q: whole.q + offset,
      out: whole.out + offset,
      positions: whole.positions + from * 4,
    });
  }
  const out = Array.from({ length: times }, () => {
    kernels.memory.f32.fill(Number.NaN, whole.out / 4, whole.out / 4 + queries.q.length);
    kernels.run(KIND_ATTEND, at, items);
    return results(scene, whole);
  });
  scene.dispose();
  return out;
}

describe('kernels', () => {
  it('give the same bits on 1, 2 and 4 threads', async () => {
    const [alone] = prompt(await create({ threads: 1 }), 200, 1);
    expect(alone!.every(Number.isFinite)).toBe(true);
    for (const threads of [2, 4]) {
      const kernels = await create({ threads });
      expect(kernels.threads).toBe(threads);
      for (const shared of prompt(kernels, 200, 100)) expect(sameBits(shared, alone!)).toBe(true);
    }
  });

  it('see memory that grew after the threads started', async () => {
    const kernels = await create({ threads: 2 });
    const [before] = prompt(kernels, 200, 1);
    const blocks = Array.from({ length: 20 }, () => kernels.memory.alloc(5_000_000));
    const [after] = prompt(kernels, 200, 1);
    expect(sameBits(after!, before!)).toBe(true);
    for (const block of blocks) kernels.memory.free(block, 5_000_000);
  });

  it('hold nothing after they are disposed of, and refuse to run', async () => {
    const memory = new Arena({ limit: 2 ** 26 });
    const kernels = await createKernels({ memory, threads: 3 });
    expect(memory.held).toBeGreaterThan(0);
    await kernels.dispose();
    await kernels.dispose();
    expect(memory.held).toBe(0);
    expect(() => kernels.run(KIND_ATTEND, 65536, 1)).toThrow('disposed');
  });

  it.each([1, 2])('report a kernel that fails, on %i threads', async threads => {
    const kernels = await create({ threads });
    // Each record asks for a turn that is not there, which traps, on whichever thread claims it.
    const scene = new Scene(kernels, 64, [{ k: 'f32', v: 'f32' }], 1);
    const page = scene.page({ layout: 0, positions: Array.from({ length: 64 }, (_, i) => i) });
    const refs = Array.from({ length: 40 }, () => ({ page, first: 0, count: 64, shift: 3, mask: ALL }));
    const queries = { q: scene.normals(64 * 8), positions: [100], group: 8, scale: 1, window: 0 };
    const attend = { ...prepare(scene, refs, queries), turnCount: 1 };
    const at = scene.alloc(4 * ATTEND_BYTES);
    for (let i = 0; i < 4; i++) writeAttend(scene, at + i * ATTEND_BYTES, attend);
    let failure: unknown;
    try {
      kernels.run(KIND_ATTEND, at, 4);
    } catch (error) {
      failure = error;
    }
    expect((failure as KvasirError).code).toBe('backend_failed');
  });

  it('run on one thread over unshared memory', async () => {
    const memory = new Arena({ limit: 2 ** 27, shared: false });
    const kernels = await create({ memory, threads: 4 });
    expect(kernels.threads).toBe(1);
    expect(kernels.variant).toBe('single');
    const [plain] = prompt(await create({ variant: 'plain' }), 100, 1);
    expect(sameBits(prompt(kernels, 100, 1)[0]!, plain!)).toBe(true);
  });

  it('start from a worker thread', async () => {
    const url = new URL('./kernels.ts', import.meta.url).href;
    const source = `
      const { parentPort } = require('node:worker_threads');
      import(${JSON.stringify(url)}).then(async ({ createKernels }) => {
        const kernels = await createKernels({ limit: 2 ** 26, threads: 2 });
        const { threads, variant } = kernels;
        await kernels.dispose();
        parentPort.postMessage({ threads, variant });
      });`;
    const worker = new Worker(source, { eval: true });
    const answer = await new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject));
    expect(answer).toMatchObject({ threads: 2 });
    await worker.terminate();
  });

  it.each([0, 1.5, 65, Number.NaN])('refuse %s threads', async threads => {
    await expect(createKernels({ threads })).rejects.toMatchObject({ code: 'invalid_request', field: 'threads' });
  });
});
