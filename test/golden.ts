import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** One prompt of a golden file (test/golden/references.py writes them). */
export interface GoldenPrompt {
  readonly ids: number[];
  /** Positions whose logits are kept, ascending. */
  readonly positions: number[];
  /** logits[i] are the float32 logits at positions[i]; null where only the highest are kept. */
  readonly logits: Float32Array[] | null;
  /** The highest logits at positions[i], best first; null where all are kept. */
  readonly top: { ids: Int32Array; logits: Float32Array }[] | null;
  /** At every position: the highest logit's id, its value, and log(sum(exp(logits))). */
  readonly argmax: Int32Array;
  readonly maximum: Float32Array;
  readonly logsumexp: Float32Array;
  /** Greedy continuation, stop tokens ignored, and the distance of the two highest logits at each step; null where none was made. */
  readonly greedy: { ids: number[]; gaps: Float32Array } | null;
}

export interface Golden {
  readonly metadata: Record<string, string>;
  /** By prompt length, ascending. */
  readonly prompts: ReadonlyMap<number, GoldenPrompt>;
}

type Numbers = Int32Array | Float32Array;
interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** Path of a file or folder under test/. */
export function testPath(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}

/** Reads test/golden/logits-<name>.safetensors. */
export function readGolden(name: string): Golden {
  const file = readFileSync(testPath(`golden/logits-${name}.safetensors`));
  const headerLength = Number(file.readBigUInt64LE(0));
  const { __metadata__: metadata, ...entries } = JSON.parse(file.toString('utf8', 8, 8 + headerLength)) as {
    __metadata__: Record<string, string>;
  } & Record<string, Entry>;
  const tensor = (key: string): { shape: number[]; data: Numbers } | null => {
    const entry = (entries as Record<string, Entry>)[key];
    if (!entry) return null;
    const [from, to] = entry.data_offsets.map(o => o + 8 + headerLength);
    const bytes = new Uint8Array(file.subarray(from, to)).buffer;
    return { shape: entry.shape, data: entry.dtype === 'I32' ? new Int32Array(bytes) : new Float32Array(bytes) };
  };
  const rows = <T extends Numbers>(key: string): T[] | null => {
    const t = tensor(key);
    if (!t) return null;
    const [n, width] = t.shape as [number, number];
    return Array.from({ length: n }, (_, i) => t.data.subarray(i * width, (i + 1) * width) as T);
  };
  const lengths = [...new Set(Object.keys(entries).map(key => Number(key.split('.')[0])))].sort((a, b) => a - b);
  const prompts = new Map<number, GoldenPrompt>();
  for (const n of lengths) {
    const vector = <T extends Numbers>(key: string): T => tensor(`${n}.${key}`)!.data as T;
    const topIds = rows<Int32Array>(`${n}.top_ids`);
    const topLogits = rows<Float32Array>(`${n}.top_logits`);
    prompts.set(n, {
      ids: [...vector('ids')],
      positions: [...vector('positions')],
      logits: rows<Float32Array>(`${n}.logits`),
      top: topIds ? topIds.map((ids, i) => ({ ids, logits: topLogits![i]! })) : null,
      argmax: vector('argmax'),
      maximum: vector('maximum'),
      logsumexp: vector('logsumexp'),
      greedy: tensor(`${n}.greedy`) && { ids: [...vector('greedy')], gaps: vector('gap') },
    });
  }
  return { metadata, prompts };
}
