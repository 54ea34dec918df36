import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { ATTEND_BYTES, KIND_ATTEND, LAYOUT_CELL_BYTES, PAGE_TOKENS } from '../kernels/abi.ts';
import { buildKernels } from '../scripts/build-kernels.ts';
import { type CpuKernels, createKernels } from '../src/backend/cpu/kernels.ts';
import type { KernelVariant } from '../src/backend/cpu/wasm.ts';
import type { JointFormat, ScalarBits, ScalarFormat } from '../src/cache/format.ts';
import { ALL, prepare, type Ref, writeAttend } from '../test/helpers/attention.ts';
import { type LayoutSpec, Scene } from '../test/helpers/scene.ts';
import { metadata } from './lib/metadata.ts';
import { writeResult } from './lib/result.ts';

/**
 * Speed of the attention kernels: decode (one row) and prefill (a chunk of rows at the end of the keys), by format, keys
 * and threads. A multiply-add of q.k and one of p.v count one each; keys that a row does not see do not count.
 */
const { values } = parseArgs({
  options: {
    'head-dim': { type: 'string', default: '64' },
    group: { type: 'string', default: '3' },
    heads: { type: 'string', default: '3' },
    keys: { type: 'string', default: '512,2048,8192' },
    rows: { type: 'string', default: '512' },
    formats: {
      type: 'string',
      default: 'f32,f16,int8,1bit,2bit,3bit,4bit,8bit,2bit+outliers,2bit+rank,vidkv,rotatekv,rotatekv4',
    },
    threads: { type: 'string', default: `1,${availableParallelism()}` },
    variant: { type: 'string' },
    ms: { type: 'string', default: '300' },
  },
});
const headDim = Number(values['head-dim']);
const group = Number(values.group);
const kvHeads = Number(values.heads);
const budget = Number(values.ms);
const list = (text: string) => text.split(',');

interface Line {
  phase: 'decode' | 'prefill';
  format: string;
  threads: number;
  keys: number;
  rows: number;
  ms: number;
  gmacs: number;
  gbytes: number;
}

const channels = Array.from({ length: headDim }, (_, c) => c);
/** Half of the key channels in 2 bits, half in 1; values in three steps. */
const vidkv: LayoutSpec = {
  k: {
    kind: 'scalar',
    parts: [
      { bits: 2, along: 'token', group: 32, channels: channels.filter(c => c % 2 === 0) },
      { bits: 1, along: 'token', group: 32, channels: channels.filter(c => c % 2 === 1), range: 'deviation' },
    ],
  },
  v: { kind: 'scalar', parts: [{ bits: 2, along: 'token', group: 32, range: 'ternary' }] },
};
/** Both planes rotated within the head, 2 bits a token; keys before RoPE. */
const rotated: ScalarFormat = {
  kind: 'scalar',
  parts: [{ bits: 2, along: 'channel', clip: 0.8, transform: 'hadamard' }],
};

/** Keys of four heads rotated together, in groups of 128. */
const joint: JointFormat = {
  kind: 'joint',
  heads: 4,
  parts: Array.from({ length: (4 * headDim) / 128 }, (_, n) => ({
    ...{ bits: 2, along: 'channel', clip: 0.8 },
    channels: Array.from({ length: 128 }, (_, i) => n + (i * headDim) / 32),
  })),
};

/** `2bit`: as KIVI, keys with parameters by channel and values by token, groups of 32; `+outliers`: 1 % of a page; `+rank`: a pair of rank 2. */
function specOf(name: string): LayoutSpec {
  if (name === 'f32' || name === 'f16' || name === 'int8') return { k: name, v: name };
  if (name === 'vidkv') return vidkv;
  if (name === 'rotatekv') return { k: rotated, v: rotated, unrotated: true };
  if (name === 'rotatekv4') return { k: joint, v: rotated, unrotated: true };
  const match = /^(\d)bit(\+outliers)?(\+rank)?$/.exec(name);
  if (!match) throw new Error(`Unknown format ${name}: f32, f16, int8 or <bits>bit[+outliers][+rank].`);
  const bits = Number(match[1]) as ScalarBits;
  const format = (along: 'token' | 'channel'): ScalarFormat => ({
    kind: 'scalar',
    parts: [{ bits, along, group: 32 }],
    ...(match[2] ? { outliers: { share: 0.01, per: along === 'token' ? 'channel' : 'token' } } : {}),
    ...(match[3] ? { lowRank: { rank: 2 } } : {}),
  });
  return { k: format('token'), v: format('channel') };
}

/** Query vectors of one record, as the engine deals them out. */
const QUERIES_PER_ITEM = 64;

function measure(kernels: CpuKernels, format: string, keys: number, rows: number): Line {
  const scene = new Scene(kernels, headDim, [specOf(format)], 1);
  const source = scene.page({ layout: 0, positions: Array.from({ length: PAGE_TOKENS }, (_, i) => i) });
  const cellBytes = scene.layoutField(0, LAYOUT_CELL_BYTES);
  const step = Math.max(1, Math.floor(QUERIES_PER_ITEM / group));
  const items: ((at: number) => void)[] = [];
  for (let head = 0; head < kvHeads; head++) {
    const refs: Ref[] = [];
    for (let from = 0; from < keys; from += PAGE_TOKENS) {
      const count = Math.min(PAGE_TOKENS, keys - from);
      const cell = scene.alloc(cellBytes);
      kernels.memory.u8.copyWithin(cell, source.cell, source.cell + cellBytes);
      const block = scene.alloc(136);
      kernels.memory.i32[block / 4] = from;
      const positions = Array.from({ length: count }, (_, i) => from + i);
      refs.push({ page: { ...source, cell, block, positions }, first: 0, count, shift: 0, mask: ALL });
    }
    for (let row = 0; row < rows; row += step) {
      const positions = Array.from({ length: Math.min(step, rows - row) }, (_, i) => keys - rows + row + i);
      const q = scene.normals(positions.length * group * headDim);
      const attend = prepare(scene, refs, { q, positions, group, scale: headDim ** -0.5, window: 0 });
      items.push(at => writeAttend(scene, at, attend));
    }
  }
  const address = scene.alloc(items.length * ATTEND_BYTES);
  items.forEach((write, i) => {
    write(address + i * ATTEND_BYTES);
  });
  const ms = best(() => kernels.run(KIND_ATTEND, address, items.length));
  scene.dispose();
  const seen = rows * keys - (rows * (rows - 1)) / 2;
  const macs = seen * group * kvHeads * 2 * headDim;
  const bytes = Math.ceil(keys / PAGE_TOKENS) * cellBytes * kvHeads;
  return {
    phase: rows === 1 ? 'decode' : 'prefill',
    format,
    threads: kernels.threads,
    keys,
    rows,
    ms,
    gmacs: macs / ms / 1e6,
    gbytes: bytes / ms / 1e6,
  };
}

/** Best time of as many runs as fit: what the kernel can do when nobody disturbs it. */
function best(run: () => void): number {
  const until = performance.now() + budget;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5 || performance.now() < until; i++) {
    const start = performance.now();
    run();
    least = Math.min(least, performance.now() - start);
  }
  return least;
}

await buildKernels();
const lines: Line[] = [];
let variant = '';
console.log('phase    format        threads   keys  rows        ms  GMAC/s   GB/s');
for (const threads of new Set(list(values.threads).map(Number))) {
  const options = values.variant === undefined ? {} : { variant: values.variant as KernelVariant };
  const kernels = await createKernels({ limit: 2 ** 30, threads, ...options });
  variant = kernels.variant;
  for (const format of list(values.formats)) {
    for (const keys of list(values.keys).map(Number)) {
      for (const rows of new Set([1, Math.min(keys, Number(values.rows))])) {
        const line = measure(kernels, format, keys, rows);
        lines.push(line);
        const cells = [line.threads, keys, rows].map((x, i) => String(x).padStart([7, 6, 5][i]!));
        const numbers = [
          line.ms.toFixed(3).padStart(9),
          line.gmacs.toFixed(1).padStart(7),
          line.gbytes.toFixed(1).padStart(6),
        ];
        console.log(`${line.phase.padEnd(8)} ${format.padEnd(13)} ${cells.join(' ')} ${numbers.join(' ')}`);
      }
    }
  }
  await kernels.dispose();
}
const run = metadata({ v8: process.versions.v8 });
console.log(`written to ${writeResult('kernels', run, { variant, headDim, group, kvHeads, lines })}`);
