import { createHash, randomUUID } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KvasirError } from '../../../errors.ts';
import type { ModelFile } from '../../../model/types.ts';
import type { NumericMode } from '../../types.ts';
import { type Manifest, readManifest, sampleFile } from './manifest.node.ts';
import { encodeModel } from './onnx.ts';
import { type ModelPlan, planModel, productsOf, type SegmentPlan, vectorsOf } from './plan.ts';
import { headGraph, segmentGraph } from './segment.ts';
import { readVectors, streamEmbedding, streamProduct } from './stream.ts';

/** Raised when what is written, or how, changes: folders of other versions are never read. */
export const REPACK_VERSION = 3;
export const WEIGHTS_FILE = 'weights.bin';
/** A temporary folder this old was left by a process that is gone. */
const STALE_MS = 6 * 3600_000;

export interface Repacked {
  readonly folder: string;
  readonly plan: ModelPlan;
  /** Where the raw embedding rows begin in the weights file. */
  readonly embedOffset: number;
}

/**
 * The model's weights as graphs and one file of weights, under `cacheDir`, made where they are not there yet. A folder
 * appears by one rename after all of it was written and flushed, and is read only if its manifest and samples agree.
 * Raises `bad_model_file` for weights that are not finite, `backend_failed` where the folder cannot be written or is full.
 */
export async function repack(
  file: ModelFile,
  mode: NumericMode,
  cacheDir: string,
  onProgress: (fraction: number) => void,
): Promise<Repacked> {
  const plan = planModel(file, mode);
  const name = `${file.fingerprint}-${mode}-${REPACK_VERSION}`;
  const parent = join(cacheDir, 'weights');
  const folder = join(parent, name);
  const repacked = { folder, plan, embedOffset: plan.fileBytes };
  if (await isWhole(repacked, file)) return repacked;

  const temporary = join(parent, `.tmp-${name}-${randomUUID()}`);
  try {
    await mkdir(temporary, { recursive: true });
    await removeStale(parent);
    await checkSpace(parent, plan, file);
    await write(file, plan, temporary, onProgress);
    await replace(temporary, folder, () => isWhole(repacked, file));
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    throw asWriteError(error, parent);
  }
  return repacked;
}

async function write(
  file: ModelFile,
  plan: ModelPlan,
  folder: string,
  onProgress: (fraction: number) => void,
): Promise<void> {
  const { config } = file;
  const embed = file.tensors.get('embed')!;
  const fileBytes = plan.fileBytes + embed.byteLength;
  const graphs: Manifest['graphs'] = {};
  const weights = await open(join(folder, WEIGHTS_FILE), 'w');
  try {
    let written = 0;
    const put = async (bytes: Uint8Array, at: number) => {
      await writeFully(weights, bytes, at);
      written += bytes.length;
      onProgress(written / (plan.bytes + embed.byteLength));
    };
    const writeSegment = async (segment: SegmentPlan, layer: number | 'head') => {
      for (const product of productsOf(segment)) {
        await streamProduct(file, product, (area, offset, bytes) => put(bytes, product.areas[area]![0] + offset));
      }
      const vectors = await readVectors(file, vectorsOf(config, layer));
      const source = {
        vector: (name: string) => vectors.get(name)!,
        area: (product: (typeof segment.qkv)[number], area: keyof typeof product.areas) => {
          const [offset, length] = product.areas[area]!;
          return { location: WEIGHTS_FILE, offset, length };
        },
      };
      const graph =
        layer === 'head' ? headGraph(config, segment, source) : segmentGraph(config, layer, segment, source);
      const bytes = encodeModel(graph);
      const name = graphFile(segment);
      await writeFile(join(folder, name), bytes, { flush: true });
      graphs[name] = createHash('sha256').update(bytes).digest('hex');
    };
    for (const [layer, segment] of plan.segments.entries()) await writeSegment(segment, layer);
    await writeSegment(plan.head, 'head');
    await streamEmbedding(file, (offset, bytes) => put(bytes, plan.fileBytes + offset));
    await weights.truncate(fileBytes);
    await weights.sync();
  } finally {
    await weights.close();
  }
  const samples = await sampleFile(join(folder, WEIGHTS_FILE));
  const manifest: Manifest = { version: REPACK_VERSION, weights: { bytes: fileBytes, samples }, graphs };
  await writeFile(join(folder, 'manifest.json'), JSON.stringify(manifest, null, 1), { flush: true });
}

export function graphFile(segment: SegmentPlan): string {
  return `${segment.name}.onnx`;
}

async function isWhole({ folder, plan }: Repacked, file: ModelFile): Promise<boolean> {
  const manifest = await readManifest(folder);
  if (manifest === null || manifest.version !== REPACK_VERSION) return false;
  const expected = [...plan.segments, plan.head].map(graphFile);
  if (expected.some(name => manifest.graphs[name] === undefined)) return false;
  return manifest.weights.bytes === plan.fileBytes + file.tensors.get('embed')!.byteLength;
}

/** Puts the new folder in the place of a broken one, or gives way to another process that was quicker. */
async function replace(temporary: string, folder: string, whole: () => Promise<boolean>): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await rename(temporary, folder);
      return;
    } catch (error) {
      if (!isCode(error, 'ENOTEMPTY', 'EEXIST', 'EPERM') || attempt > 2) throw error;
    }
    if (await whole()) {
      await rm(temporary, { recursive: true, force: true });
      return;
    }
    const aside = `${temporary}-old`;
    await rename(folder, aside);
    await rm(aside, { recursive: true, force: true });
  }
}

async function removeStale(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (!name.startsWith('.tmp-')) continue;
    const path = join(parent, name);
    const written = await stat(path).catch(() => null);
    if (written && Date.now() - written.mtimeMs > STALE_MS)
      await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}

async function checkSpace(parent: string, plan: ModelPlan, file: ModelFile): Promise<void> {
  const needed = plan.fileBytes + file.tensors.get('embed')!.byteLength;
  const { bavail, bsize } = await statfs(parent);
  if (bavail * bsize >= needed) return;
  throw new KvasirError(
    'backend_failed',
    `Repacked weights need ${needed} bytes; ${parent} has ${bavail * bsize} left.`,
    {
      field: 'cacheDir',
      value: parent,
      allowed: `a folder with ${needed} bytes to spare`,
    },
  );
}

async function writeFully(handle: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, at + done);
    done += bytesWritten;
  }
}

function asWriteError(error: unknown, parent: string): unknown {
  if (error instanceof KvasirError || !(error instanceof Error) || !('code' in error)) return error;
  const reason = isCode(error, 'ENOSPC', 'EDQUOT') ? 'is full' : 'cannot be written';
  return new KvasirError('backend_failed', `The folder for repacked weights ${reason}: ${parent} (${error.code}).`, {
    field: 'cacheDir',
    value: parent,
    allowed: 'a folder that can be written, with room for the weights',
    cause: error,
  });
}

function isCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && codes.includes((error as NodeJS.ErrnoException).code ?? '');
}
