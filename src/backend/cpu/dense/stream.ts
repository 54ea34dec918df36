import { checkFinite, dequantizeRows } from '../../../model/dequantize.ts';
import type { ModelFile } from '../../../model/types.ts';
import { encodeRows } from './encode.ts';
import type { AreaName } from './form.ts';
import type { Product } from './plan.ts';

/** Float32 bytes of the rows encoded at once: what a load holds beyond the weights themselves stays a few times this. */
const BATCH_BYTES = 4 << 20;

/**
 * Encodes a product's tensors a few rows at a time. `write` gets bytes for an area, with their offset in it.
 * Raises `bad_model_file` naming the tensor where a weight is not finite.
 */
export async function streamProduct(
  file: ModelFile,
  product: Product,
  write: (area: AreaName, offset: number, bytes: Uint8Array) => void | Promise<void>,
): Promise<void> {
  const ends: Partial<Record<AreaName, number>> = {};
  for (const tensor of product.parts) {
    const step = Math.max(1, Math.floor(BATCH_BYTES / (tensor.columns * 4)));
    for (let from = 0; from < tensor.rows; from += step) {
      const raw = await file.read(tensor.name, from, Math.min(tensor.rows, from + step));
      const areas = encodeRows(tensor, from, raw, product.form);
      for (const [area, bytes] of Object.entries(areas) as [AreaName, Uint8Array][]) {
        const offset = ends[area] ?? 0;
        await write(area, offset, bytes);
        ends[area] = offset + bytes.length;
      }
    }
  }
}

/** The token embeddings as they are stored, a few rows at a time, checked like every other weight. */
export async function streamEmbedding(
  file: ModelFile,
  write: (offset: number, bytes: Uint8Array) => void | Promise<void>,
): Promise<void> {
  const { type, rows, columns } = file.tensors.get('embed')!;
  const step = Math.max(1, Math.floor(BATCH_BYTES / (columns * 4)));
  let offset = 0;
  for (let from = 0; from < rows; from += step) {
    const raw = await file.read('embed', from, Math.min(rows, from + step));
    checkFinite('embed', dequantizeRows(type, raw, columns), from * columns);
    await write(offset, raw);
    offset += raw.length;
  }
}

/** Norm weights and biases by name, float32. */
export async function readVectors(file: ModelFile, names: readonly string[]): Promise<Map<string, Float32Array>> {
  const vectors = new Map<string, Float32Array>();
  for (const name of names) {
    const info = file.tensors.get(name)!;
    const values = dequantizeRows(info.type, await file.read(name), info.columns);
    checkFinite(name, values);
    vectors.set(name, values);
  }
  return vectors;
}
