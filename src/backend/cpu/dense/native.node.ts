import { closeSync, openSync, readSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { InferenceSession } from 'onnxruntime-web';
import { KvasirError } from '../../../errors.ts';
import type { ModelFile } from '../../../model/types.ts';
import type { DenseModel, DenseOptions, DenseProvider, Memory } from '../../types.ts';
import { Embedding, embeddingRowBytes } from './embedding.ts';
import { graphFile, type Repacked, repack, WEIGHTS_FILE } from './repack.node.ts';
import { SegmentRunner } from './runner.ts';

type Runtime = typeof import('onnxruntime-web');

/** ONNX Runtime as a native library. Raises `unsupported` where the package is not installed or has no build for this machine. */
export async function nativeProvider(): Promise<DenseProvider> {
  let runtime: Runtime;
  try {
    runtime = await import('onnxruntime-node');
  } catch (error) {
    throw new KvasirError('unsupported', 'onnxruntime-node is not installed, or not built for this machine.', {
      field: 'provider',
      value: 'native',
      allowed: ['wasm', 'auto'],
      cause: error,
    });
  }
  return { name: 'onnxruntime-node', load: (file, memory, options) => load(runtime, file, memory, options) };
}

async function load(
  runtime: Runtime,
  file: ModelFile,
  memory: Memory,
  { mode, threads, cacheDir, onProgress }: DenseOptions,
): Promise<DenseModel> {
  void memory;
  const own = cacheDir ? null : await mkdtemp(join(tmpdir(), 'kvasir-'));
  const forget = async () => {
    // Mapped files cannot go on every system while they are mapped.
    if (own) await rm(own, { recursive: true, force: true }).catch(() => {});
  };
  try {
    let share = 0;
    const repacked = await repack(file, mode, cacheDir || own!, fraction => {
      share = 0.8;
      onProgress?.(fraction * share, 'repacking weights');
    });
    const runner = await openRunner(runtime, file, repacked, threads, fraction =>
      onProgress?.(share + fraction * (1 - share), 'loading weights'),
    );
    const fd = openSync(join(repacked.folder, WEIGHTS_FILE), 'r');
    await forget();
    const table = file.tensors.get('embed')!;
    const raw = new Uint8Array(embeddingRowBytes(table));
    const embedding = new Embedding(file.config, table, row => {
      readSync(fd, raw, 0, raw.length, repacked.embedOffset + row * raw.length);
      return raw;
    });
    let disposed = false;
    return {
      config: file.config,
      provider: 'onnxruntime-node',
      bytes: repacked.plan.bytes,
      embed: async (ids, out) => {
        if (disposed) throw new KvasirError('disposed', 'The model was unloaded.');
        embedding.rows(ids, out);
      },
      segment: (layer, block) => runner.segment(layer, block),
      logits: block => runner.logits(block),
      dispose: async () => {
        if (disposed) return;
        disposed = true;
        await runner.dispose();
        closeSync(fd);
        await forget();
      },
    };
  } catch (error) {
    await forget();
    throw error;
  }
}

async function openRunner(
  runtime: Runtime,
  file: ModelFile,
  { folder, plan }: Repacked,
  threads: number,
  onProgress: (fraction: number) => void,
): Promise<SegmentRunner> {
  const options = sessionOptions(threads);
  // The head, mostly the greatest, comes first: its stored and its packed form lie side by side while it is made.
  const order = [plan.head, ...plan.segments];
  const sessions: InferenceSession[] = [];
  try {
    for (const segment of order) {
      sessions.push(await runtime.InferenceSession.create(join(folder, graphFile(segment)), options));
      onProgress(sessions.length / order.length);
    }
  } catch (error) {
    for (const session of sessions) await session.release();
    throw KvasirError.from(error);
  }
  const [head, ...segments] = sessions;
  // This runtime writes into the tensors it is given.
  const execute = (
    session: InferenceSession,
    feeds: InferenceSession.FeedsType,
    fetches: InferenceSession.FetchesType,
  ) => session.run(feeds, fetches);
  return new SegmentRunner(runtime, file.config, segments, head, execute);
}

/**
 * Each segment has a session with its own threads. They may spin for some microseconds between the products of one run,
 * which is what makes a single row no slower than on one thread, but never between runs: the threads of all other segments,
 * and those of attention, need the cores then. Without an arena per session the work space of one segment serves all.
 */
function sessionOptions(threads: number): InferenceSession.SessionOptions {
  return {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    enableCpuMemArena: false,
    enableMemPattern: false,
    extra: {
      session: {
        force_spinning_stop: '1',
        intra_op: { allow_spinning: '1', spin_duration_us: '50' },
      },
    },
  };
}
