import type { InferenceSession, Tensor } from 'onnxruntime-web';
import { KvasirError } from '../../../errors.ts';
import type { ModelFile } from '../../../model/types.ts';
import type { DenseModel, DenseOptions, DenseProvider } from '../../types.ts';
import { Embedding, embeddingRowBytes } from './embedding.ts';
import type { AreaName } from './form.ts';
import { encodeModel } from './onnx.ts';
import { type ModelPlan, type Product, planModel, productsOf, type SegmentPlan, vectorsOf } from './plan.ts';
import { SegmentRunner } from './runner.ts';
import { headGraph, segmentGraph } from './segment.ts';
import { readVectors, streamEmbedding, streamProduct } from './stream.ts';

type Runtime = typeof import('onnxruntime-web');

/**
 * Absolute URLs of onnxruntime-web's dist/ort-wasm-simd-threaded.*. The runtime's threads begin by loading its own module,
 * which therefore cannot lie in a bundle.
 */
export interface WasmFiles {
  readonly wasm: string;
  readonly mjs: string;
}

let files: WasmFiles | null = null;

/** Where a page's server offers the runtime; to be set before the first load. Node takes the package's own files. */
export function setWasmFiles(urls: WasmFiles): void {
  files = urls;
}

/** ONNX Runtime as WASM. Its n-bit products are 80 times slower than float32 ones, so both modes hold float32 weights. */
export async function wasmProvider(): Promise<DenseProvider> {
  const node = typeof process !== 'undefined' && Boolean(process.versions?.node);
  // The package's main entry is its build for Node. A bundler must not follow it: in a page it brings the GPU providers.
  const forNode = 'onnxruntime-web';
  const runtime: Runtime = node ? await import(/* @vite-ignore */ forNode) : await import('onnxruntime-web/wasm');
  return { name: 'onnxruntime-web', load: (file, _memory, options) => load(runtime, file, options) };
}

async function load(runtime: Runtime, file: ModelFile, { threads, onProgress }: DenseOptions): Promise<DenseModel> {
  // The runtime reads these once, when it starts.
  runtime.env.wasm.numThreads = canShareMemory() ? threads : 1;
  if (files) runtime.env.wasm.wasmPaths = { ...files };
  const { config } = file;
  const plan = planModel(file, 'exact');
  const table = file.tensors.get('embed')!;
  const rows = new Uint8Array(table.byteLength);
  await streamEmbedding(file, (offset, bytes) => rows.set(bytes, offset));
  const rowBytes = embeddingRowBytes(table);
  const embedding = new Embedding(config, table, row => rows.subarray(row * rowBytes, (row + 1) * rowBytes));

  const runner = await openRunner(runtime, file, plan, fraction => onProgress?.(fraction, 'loading weights'));
  let disposed = false;
  return {
    config,
    provider: 'onnxruntime-web',
    bytes: plan.bytes + rows.length,
    embed: async (ids, out) => embedding.rows(ids, out),
    segment: (layer, block) => runner.segment(layer, block),
    logits: block => runner.logits(block),
    dispose: async () => {
      if (disposed) return;
      disposed = true;
      await runner.dispose();
    },
  };
}

async function openRunner(
  runtime: Runtime,
  file: ModelFile,
  plan: ModelPlan,
  onProgress: (fraction: number) => void,
): Promise<SegmentRunner> {
  const segments: InferenceSession[] = [];
  let head: InferenceSession | null = null;
  try {
    // The head, mostly the greatest, comes first: what its load takes for a moment serves the others after it.
    head = await openSession(runtime, file, plan.head, 'head');
    for (const [layer, segment] of plan.segments.entries()) {
      segments.push(await openSession(runtime, file, segment, layer));
      onProgress(segments.length / plan.segments.length);
    }
  } catch (error) {
    for (const session of [head, ...segments]) await session?.release();
    throw KvasirError.from(error);
  }
  return new SegmentRunner(runtime, file.config, segments, head, runCopied);
}

async function openSession(
  runtime: Runtime,
  file: ModelFile,
  segment: SegmentPlan,
  layer: number | 'head',
): Promise<InferenceSession> {
  const products = productsOf(segment);
  const spans = products.flatMap(product => Object.values(product.areas));
  const start = Math.min(...spans.map(([offset]) => offset));
  const weights = new Uint8Array(Math.max(...spans.map(([offset, length]) => offset + length)) - start);
  for (const product of products) {
    await streamProduct(file, product, (area, offset, bytes) =>
      weights.set(bytes, product.areas[area]![0] - start + offset),
    );
  }
  const vectors = await readVectors(file, vectorsOf(file.config, layer));
  const source = {
    vector: (name: string) => vectors.get(name)!,
    area: (product: Product, area: AreaName) => {
      const [offset, length] = product.areas[area]!;
      return { location: segment.name, offset: offset - start, length };
    },
  };
  const graph =
    layer === 'head' ? headGraph(file.config, segment, source) : segmentGraph(file.config, layer, segment, source);
  return runtime.InferenceSession.create(encodeModel(graph), {
    executionProviders: ['wasm'],
    graphOptimizationLevel: 'all',
    enableCpuMemArena: false,
    enableMemPattern: false,
    externalData: [{ path: segment.name, data: weights }],
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
}

/** The runtime has a memory of its own: what it computed is copied into the block. */
async function runCopied(
  session: InferenceSession,
  feeds: Record<string, Tensor>,
  fetches: Record<string, Tensor>,
): Promise<void> {
  const results = await session.run(feeds);
  for (const [name, tensor] of Object.entries(fetches)) {
    (tensor.data as Float32Array).set(results[name].data as Float32Array);
    results[name].dispose();
  }
}

/** A page has shared memory only where its server sends the headers for cross-origin isolation. */
function canShareMemory(): boolean {
  return typeof SharedArrayBuffer !== 'undefined' && (globalThis.crossOriginIsolated ?? true);
}
