import { createHash } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** What a folder of repacked weights says of itself: written last, so that a folder without it is no folder. */
export interface Manifest {
  version: number;
  weights: { bytes: number; samples: string };
  /** SHA-256 of each graph, by file name. */
  graphs: Record<string, string>;
}

const SAMPLES = 64;
const SAMPLE_BYTES = 4096;

/** The manifest of a folder all of whose files agree with it, or null. */
export async function readManifest(folder: string): Promise<Manifest | null> {
  try {
    const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Manifest;
    for (const [name, digest] of Object.entries(manifest.graphs)) {
      const bytes = await readFile(join(folder, name));
      if (createHash('sha256').update(bytes).digest('hex') !== digest) return null;
    }
    return (await sampleFile(join(folder, 'weights.bin'))) === manifest.weights.samples ? manifest : null;
  } catch {
    return null;
  }
}

/** SHA-256 over the size and evenly spread samples, the first and the last bytes among them. */
export async function sampleFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    hash.update(String(size));
    const buffer = new Uint8Array(SAMPLE_BYTES);
    for (let i = 0; i < SAMPLES; i++) {
      const at = Math.floor((Math.max(0, size - SAMPLE_BYTES) * i) / (SAMPLES - 1));
      const { bytesRead } = await handle.read(buffer, 0, SAMPLE_BYTES, at);
      hash.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await handle.close();
  }
  return hash.digest('hex');
}
