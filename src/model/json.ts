import { KvasirError } from '../errors.ts';
import { readWhole } from './source.ts';
import type { ByteSource } from './types.ts';

export type JsonObject = Record<string, unknown>;

/** Parses a JSON object out of bytes. Raises `bad_model_file` naming the file. */
export function parseObject(bytes: Uint8Array, file: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new KvasirError('bad_model_file', `${file} is no JSON: ${(cause as Error).message}`, { field: file, cause });
  }
  if (isObject(value)) return value;
  throw new KvasirError('bad_model_file', `${file} holds no JSON object.`, { field: file, allowed: 'an object' });
}

/** A whole JSON file of at most `limit` bytes; closes the source. */
export async function readObject(source: ByteSource, limit: number): Promise<{ bytes: Uint8Array; json: JsonObject }> {
  try {
    const bytes = await readWhole(source, limit);
    return { bytes, json: parseObject(bytes, source.name) };
  } finally {
    await source.close();
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
