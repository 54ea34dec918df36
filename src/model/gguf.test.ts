import { describe, expect, test } from 'vitest';
import { dequantizeRows } from './dequantize.ts';
import { floatToHalf } from './float16.ts';
import { readGgufHeader } from './gguf-header.ts';
import { type GgufTensor, layoutGguf, meta, type TypedValue, writeGguf } from './gguf-writer.ts';
import { openModel } from './open.ts';
import { bufferSource } from './source.ts';
import { BLOCKS } from './tensor-type.ts';
import { sentencePieceMetadata, TINY, type TinyOptions, tinyGguf } from './tiny-files.ts';
import type { ByteSource } from './types.ts';

const open = (options: TinyOptions = {}) => openModel(bufferSource(tinyGguf(options), 'tiny.gguf'));
type Data = GgufTensor & { data: Uint8Array };

describe('what a file states', () => {
  test('llama', async () => {
    const { config, tokenizer } = await open();
    expect(config).toMatchObject({
      ...TINY, architecture: 'llama', vocab: 261, context: 128, activation: 'silu', embeddingScale: 1,
      attentionScale: 1 / Math.sqrt(8), qkvBias: false, qkNorm: false, postNorms: false, tiedEmbeddings: true,
      layerRope: [0, 0], layerWindow: [0, 0],
    }); // biome-ignore format: reads as one record
    expect(config.normEpsilon).toBeCloseTo(1e-5, 10);
    expect(config.ropes[0].inverseFrequencies.length).toBe(4);
    expect(tokenizer).toMatchObject({ bosToken: '<|endoftext|>', eosToken: '<|im_end|>', addBos: false });
    expect([...tokenizer.endTokens].sort()).toEqual([258, 260]);
  });

  test('qwen2, qwen3', async () => {
    expect((await open({ architecture: 'qwen2' })).config).toMatchObject({ qkvBias: true, qkNorm: false });
    expect((await open({ architecture: 'qwen3' })).config).toMatchObject({ qkvBias: false, qkNorm: true });
  });

  test('gemma3', async () => {
    const metadata = {
      'gemma3.attention.sliding_window': meta.u32(16),
      'gemma3.attention.sliding_window_pattern': meta.u32(2),
    };
    const { config } = await open({ architecture: 'gemma3', metadata });
    expect(config).toMatchObject({
      activation: 'gelu_tanh', embeddingScale: Math.sqrt(32), postNorms: true, qkNorm: true,
      layerWindow: [16, 0], layerRope: [1, 0],
    }); // biome-ignore format: reads as one record
    expect(config.ropes.length).toBe(2);
  });

  test('scaling, head size, an output matrix of its own', async () => {
    const { config, tensors } = await open({
      metadata: {
        'llama.attention.key_length': meta.u32(16),
        'llama.attention.head_count': meta.u32(2),
        'llama.attention.head_count_kv': meta.numbers('i32', [1, 1]),
        'llama.rope.scaling.type': meta.string('linear'),
        'llama.rope.scaling.factor': meta.f32(4),
      },
      tensors: list => [...list, { ...list[0], name: 'output.weight' }],
    });
    expect(config).toMatchObject({ heads: 2, kvHeads: 1, headDim: 16, tiedEmbeddings: false });
    expect(config.ropes[0].inverseFrequencies[0]).toBe(0.25);
    expect(tensors.get('lm_head')).toMatchObject({ rows: 261, columns: 32 });
  });
});

describe('reading', () => {
  test('rows of q and k come out with halves apart, also in parts', async () => {
    for (const type of ['F32', 'Q8_0'] as const) {
      // Row r of the file holds the number r.
      const numbered = (list: Data[]): Data[] =>
        list.map(t => {
          if (!/attn_[qk]\.weight/.test(t.name)) return t;
          const data = t.data.slice();
          const stride = data.length / t.rows;
          for (let r = 0; r < t.rows; r++) new DataView(data.buffer).setUint16(r * stride, floatToHalf(r), true);
          return { ...t, data };
        });
      const model = await open({ type, tensors: numbered });
      const stored = (row: number) => row - (row % 8) + (row % 8 < 4 ? 2 * (row % 4) : 2 * (row % 4) + 1);
      for (const [name, rows] of [
        ['layers.1.q', 32],
        ['layers.0.k', 16],
      ] as const) {
        for (const [from, to] of [
          [0, rows],
          [0, 0],
          [3, 4],
          [5, 7],
          [3, 13],
          [8, 16],
          [rows - 1, rows],
        ]) {
          const bytes = await model.read(name, from, to);
          const stride = BLOCKS[type].bytes * (32 / BLOCKS[type].elements);
          expect(bytes.length).toBe((to - from) * stride);
          for (let r = from; r < to; r++) {
            expect(new DataView(bytes.buffer, bytes.byteOffset).getUint16((r - from) * stride, true)).toBe(
              floatToHalf(stored(r)),
            );
          }
        }
      }
    }
  });

  test('other tensors come as they are; a slice is a slice of the whole', async () => {
    let expected: Data | undefined;
    const model = await open({
      type: 'Q4_0',
      tensors: list => {
        expected = list.find(t => t.name === 'blk.1.ffn_down.weight');
        return list;
      },
    });
    const whole = await model.read('layers.1.down');
    expect(Buffer.compare(whole, expected!.data)).toBe(0);
    expect(await model.read('layers.1.down', 5, 9)).toEqual(whole.slice(5 * 36, 9 * 36));
    expect(dequantizeRows('Q4_0', whole, 64).length).toBe(32 * 64);
  });

  test('rows and names that are not there are refused', async () => {
    const model = await open();
    await expect(model.read('layers.9.q')).rejects.toMatchObject({ code: 'bad_model_file', value: 'layers.9.q' });
    for (const [from, to] of [
      [-1, 2],
      [0, 33],
      [5, 4],
      [0.5, 2],
      [Number.NaN, 2],
    ]) {
      await expect(model.read('layers.0.q', from, to)).rejects.toMatchObject({
        code: 'invalid_request',
        field: 'rows',
      });
    }
  });

  test('opening reads the header and a little of each tensor, whatever the size of the data', async () => {
    // An embedding of 64 MiB, of which only what is read exists.
    const rows = 1 << 19;
    const tensors = [{ name: 'token_embd.weight', type: 'F32' as const, rows, columns: 32 }];
    const small = tinyGguf();
    const { header } = await readLayout(small, tensors);
    let read = 0;
    let largest = 0;
    const source: ByteSource = {
      size: header.size,
      name: 'large.gguf',
      async read(offset, length) {
        read += length;
        largest = Math.max(largest, length);
        const bytes = new Uint8Array(length);
        bytes.set(header.bytes.subarray(offset, offset + length));
        return bytes;
      },
      async close() {},
    };
    const model = await openModel(source);
    expect(model.config.vocab).toBe(rows);
    expect(largest).toBeLessThanOrEqual(1 << 20);
    expect(read).toBeLessThan(1.2 * 2 ** 20);
    expect((await model.read('embed', rows - 2, rows)).length).toBe(256);
  });

  test('the fingerprint follows weights, tokenizer and sizes, not the name', async () => {
    const bytes = tinyGguf();
    const { fingerprint } = await openModel(bufferSource(bytes, 'a'));
    expect(fingerprint).toMatch(/^[0-9a-f]{64}$/);
    expect((await openModel(bufferSource(bytes, 'b'))).fingerprint).toBe(fingerprint);
    const others = await Promise.all([
      open({ seed: 2 }),
      open({ metadata: { 'tokenizer.ggml.eos_token_id': meta.u32(259) } }),
      open({ alignment: 64 }),
    ]);
    expect(new Set([fingerprint, ...others.map(m => m.fingerprint)]).size).toBe(4);
  });
});

const without = (name: string) => (list: Data[]) => list.filter(t => t.name !== name);
const change = (name: string, by: Partial<Data>) => (list: Data[]) =>
  list.map(t => (t.name === name ? { ...t, ...by } : t));
const key = (name: string, value: TypedValue | undefined): TinyOptions => ({ metadata: { [name]: value } });

describe('bad files are refused with the section, key or tensor', () => {
  const cases: [string, TinyOptions, string, RegExp][] = [
    ['no architecture', key('general.architecture', undefined), 'bad_model_file', /general\.architecture" is missing/],
    ['an architecture not known', key('general.architecture', meta.string('mamba')), 'unknown_architecture', /"mamba"/],
    ['a number where a string is due', key('general.architecture', meta.u32(3)), 'bad_model_file', /not a string/],
    ['no layers', key('llama.block_count', meta.u32(0)), 'bad_model_file', /layers is 0/],
    ['two billion layers', key('llama.block_count', meta.u32(2 ** 31)), 'bad_model_file', /layers/],
    [
      'a layer too many',
      key('llama.block_count', meta.u32(3)),
      'bad_model_file',
      /"blk\.2\.attn_norm\.weight" is missing/,
    ],
    ['a layer too few', key('llama.block_count', meta.u32(1)), 'unsupported', /"blk\.1\.attn_norm\.weight"/],
    ['another width', key('llama.embedding_length', meta.u32(64)), 'bad_model_file', /shape/],
    ['a width of nothing', key('llama.embedding_length', meta.u32(0)), 'bad_model_file', /head dimension is 0/],
    ['no heads', key('llama.attention.head_count', meta.u32(0)), 'bad_model_file', /head dimension/],
    ['heads that do not share', key('llama.attention.head_count_kv', meta.u32(3)), 'bad_model_file', /do not share 3/],
    [
      'an epsilon that is none',
      key('llama.attention.layer_norm_rms_epsilon', meta.f32(Number.NaN)),
      'bad_model_file',
      /epsilon/,
    ],
    ['a base of nothing', key('llama.rope.freq_base', meta.f32(0)), 'bad_model_file', /rope\.freq_base/],
    ['experts', key('llama.expert_count', meta.u32(8)), 'unsupported', /expert_count/],
    ['scaling by length', key('llama.rope.scaling.type', meta.string('longrope')), 'unsupported', /longrope/],
    ['partial rotation', key('llama.rope.dimension_count', meta.u32(4)), 'unsupported', /dimension_count/],
    ['several parts', key('split.count', meta.numbers('i32', [])), 'ok', /./],
    ['one of two parts', key('split.count', meta.u32(2)), 'unsupported', /one of 2 parts/],
    [
      'a vocabulary larger than the embedding',
      key('tokenizer.ggml.tokens', meta.strings(Array.from({ length: 300 }, (_, i) => `t${i}`))),
      'bad_model_file',
      /300 tokens/,
    ],
    ['no tokens', key('tokenizer.ggml.tokens', meta.strings([])), 'bad_model_file', /0 tokens/],
    [
      'types for half the tokens',
      key('tokenizer.ggml.token_type', meta.numbers('i32', [1, 1])),
      'bad_model_file',
      /2 entries for 261/,
    ],
    ['an end token outside', key('tokenizer.ggml.eos_token_id', meta.u32(999)), 'bad_model_file', /999/],
    ['a pre-tokenizer not known', key('tokenizer.ggml.pre', meta.string('chameleon')), 'unsupported', /"chameleon"/],
    ['a tokenizer not known', key('tokenizer.ggml.model', meta.string('t5')), 'unsupported', /"t5"/],
    ['no merges', key('tokenizer.ggml.merges', undefined), 'bad_model_file', /merges" is missing/],
    [
      'a missing tensor',
      { tensors: without('blk.1.ffn_up.weight') },
      'bad_model_file',
      /"blk\.1\.ffn_up\.weight" is missing/,
    ],
    ['no embedding', { tensors: without('token_embd.weight') }, 'bad_model_file', /token_embd/],
    [
      'a turned matrix',
      { tensors: change('blk.0.ffn_down.weight', { rows: 64, columns: 32 }) },
      'bad_model_file',
      /shape \[64, 32\]/,
    ],
    [
      'a tensor for nothing',
      { tensors: list => [...list, { ...list[1], name: 'blk.0.attn_output.bias' }] },
      'unsupported',
      /attn_output\.bias/,
    ],
    ['a tensor twice', { tensors: list => [...list, list[1]] }, 'bad_model_file', /occurs twice/],
    [
      'divisors of another size',
      {
        tensors: list => [
          ...list,
          { name: 'rope_freqs.weight', type: 'F32', rows: 1, columns: 3, data: new Uint8Array(12) },
        ],
      },
      'bad_model_file',
      /rope_freqs/,
    ],
  ];
  test.each(cases)('%s', async (_, options, code, message) => {
    if (code === 'ok') return void (await open(options));
    await expect(open(options)).rejects.toMatchObject({
      name: 'KvasirError',
      code,
      message: expect.stringMatching(message),
    });
  });

  test('merges that are no pairs, when the tokenizer is asked for', async () => {
    const model = await open(key('tokenizer.ggml.merges', meta.strings(['he'])));
    expect(() => model.tokenizer).toThrow(
      expect.objectContaining({ code: 'bad_model_file', field: 'tokenizer.ggml.merges' }),
    );
  });

  test('a sentencepiece vocabulary without scores', async () => {
    const tokenizer = sentencePieceMetadata(true);
    delete tokenizer['tokenizer.ggml.scores'];
    await expect(open({ tokenizer })).rejects.toMatchObject({ code: 'bad_model_file', field: 'tokenizer.ggml.scores' });
  });
});

describe('bad headers', () => {
  const metadata = { 'general.architecture': meta.string('llama') };
  const tensor = { name: 'token_embd.weight', type: 'F32' as const, rows: 4, columns: 8 };
  const small = () => writeGguf(metadata, [{ ...tensor, data: new Uint8Array(128) }]);
  const at = (needle: string, bytes: Uint8Array) => Buffer.from(bytes).indexOf(needle) + needle.length;
  const refuse = async (bytes: Uint8Array, code: string, message: RegExp) =>
    expect(openModel(bufferSource(bytes, 'x.gguf'))).rejects.toMatchObject({
      name: 'KvasirError',
      code,
      message: expect.stringMatching(message),
    });
  const patched = (change: (view: DataView, bytes: Uint8Array) => void) => {
    const bytes = small();
    change(new DataView(bytes.buffer), bytes);
    return bytes;
  };

  test('empty, short, another format', async () => {
    await refuse(new Uint8Array(0), 'bad_model_file', /no GGUF file/);
    await refuse(new TextEncoder().encode('GGU'), 'bad_model_file', /no GGUF file/);
    await refuse(new TextEncoder().encode('PK\u0003\u0004 and so on'), 'bad_model_file', /no GGUF file/);
    await refuse(new TextEncoder().encode('GGUF'), 'bad_model_file', /version/);
  });

  test('versions: 1, big-endian, from the future', async () => {
    for (const version of [0, 1, 4, 0x03000000]) {
      await refuse(
        patched(view => view.setUint32(4, version, true)),
        'bad_model_file',
        /version \d+ is not read/,
      );
    }
  });

  test('huge counts', async () => {
    await refuse(
      patched(view => view.setBigUint64(8, 2n ** 63n, true)),
      'bad_model_file',
      /tensor count/,
    );
    await refuse(
      patched(view => view.setBigUint64(8, 999n, true)),
      'bad_model_file',
      /tensor count/,
    );
    await refuse(
      patched(view => view.setBigUint64(16, 2n ** 40n, true)),
      'bad_model_file',
      /metadata count/,
    );
    await refuse(
      patched(view => view.setBigUint64(24, 2n ** 33n, true)),
      'bad_model_file',
      /metadata key 0/,
    );
    const array = writeGguf({ list: meta.strings(['a']) }, []);
    new DataView(array.buffer).setBigUint64(at('list', array) + 8, 2n ** 50n, true);
    await refuse(array, 'bad_model_file', /metadata key "list"/);
  });

  test('value types', async () => {
    await refuse(
      patched((view, bytes) => view.setUint32(at('general.architecture', bytes), 77, true)),
      'bad_model_file',
      /unknown value type 77/,
    );
    const array = writeGguf({ list: meta.strings(['a']) }, []);
    new DataView(array.buffer).setUint32(at('list', array) + 4, 13, true);
    await refuse(array, 'bad_model_file', /unknown type 13/);
    const flag = writeGguf({ flag: meta.bool(true) }, []);
    flag[at('flag', flag) + 4] = 2;
    await refuse(flag, 'bad_model_file', /no boolean/);
  });

  test('nested arrays end somewhere', async () => {
    const deep = new Uint8Array(4096);
    const view = new DataView(deep.buffer);
    deep.set(writeGguf({ list: meta.strings([]) }, []).subarray(0, 24));
    view.setBigUint64(24, 4n, true);
    deep.set(new TextEncoder().encode('list'), 32);
    view.setUint32(36, 9, true);
    for (let i = 0; i < 100; i++) {
      view.setUint32(40 + 12 * i, 9, true);
      view.setBigUint64(44 + 12 * i, 1n, true);
    }
    await refuse(deep, 'bad_model_file', /deep/);
  });

  test('alignment', async () => {
    for (const alignment of [0, 3, 2 ** 31]) {
      const bytes = writeGguf({ ...metadata, 'general.alignment': meta.u32(alignment) }, []);
      await refuse(bytes, 'bad_model_file', /general\.alignment/);
    }
  });

  test('tensor infos', async () => {
    const info = (offset: number, write: (view: DataView, at: number) => void) =>
      patched((view, bytes) => write(view, at('token_embd.weight', bytes) + offset));
    await refuse(
      info(0, (v, p) => v.setUint32(p, 9, true)),
      'bad_model_file',
      /9 dimensions/,
    );
    await refuse(
      info(4, (v, p) => v.setBigUint64(p, 0n, true)),
      'bad_model_file',
      /dimension 0 is 0/,
    );
    await refuse(
      info(4, (v, p) => v.setBigUint64(p, 2n ** 60n, true)),
      'bad_model_file',
      /dimension 0/,
    );
    await refuse(
      info(12, (v, p) => v.setBigUint64(p, 2n ** 31n, true)),
      'bad_model_file',
      /tensor data of "token_embd\.weight".*truncated/,
    );
    await refuse(
      info(20, (v, p) => v.setUint32(p, 10, true)),
      'unknown_tensor_type',
      /"token_embd\.weight" has type Q2_K/,
    );
    await refuse(
      info(20, (v, p) => v.setUint32(p, 1234, true)),
      'unknown_tensor_type',
      /number 1234/,
    );
    await refuse(
      info(20, (v, p) => v.setUint32(p, 12, true)),
      'bad_model_file',
      /blocks of 256/,
    );
    await refuse(
      info(24, (v, p) => v.setBigUint64(p, 7n, true)),
      'bad_model_file',
      /multiple of 32/,
    );
    await refuse(
      info(24, (v, p) => v.setBigUint64(p, 2n ** 62n, true)),
      'bad_model_file',
      /tensor data/,
    );
  });

  test('tensors that overlap', async () => {
    const bytes = writeGguf(metadata, [
      { ...tensor, data: new Uint8Array(128) },
      { ...tensor, name: 'other', data: new Uint8Array(128) },
    ]);
    new DataView(bytes.buffer).setBigUint64(at('other', bytes) + 24, 64n, true);
    await refuse(bytes, 'bad_model_file', /overlap/);
  });

  test('a key that occurs twice', async () => {
    const bytes = writeGguf({ aa: meta.u32(1), ab: meta.u32(2) }, []);
    bytes[at('ab', bytes) - 1] = 'a'.charCodeAt(0);
    await refuse(bytes, 'bad_model_file', /"aa": it occurs twice/);
  });
});

test('a written file reads back at any alignment', async () => {
  const expected = dequantizeRows('F32', await (await open()).read('norm'), 32);
  for (const alignment of [1, 8, 64, 4096]) {
    const model = await open({ alignment });
    expect(dequantizeRows('F32', await model.read('norm'), 32)).toEqual(expected);
  }
});

/** The header of a tiny model whose tensors `replaced` have other sizes. */
async function readLayout(tiny: Uint8Array, replaced: readonly GgufTensor[]) {
  const { metadata, tensors } = await readGgufHeader(bufferSource(tiny));
  const typed: Record<string, TypedValue> = {};
  for (const [name, value] of metadata) {
    if (typeof value === 'string') typed[name] = meta.string(value);
    else if (typeof value === 'boolean') typed[name] = meta.bool(value);
    else if (typeof value === 'number') typed[name] = Number.isInteger(value) ? meta.u32(value) : meta.f32(value);
    else
      typed[name] =
        typeof value[0] === 'string' ? meta.strings(value as string[]) : meta.numbers('i32', value as number[]);
  }
  const list = [...tensors.values()].map(t => replaced.find(other => other.name === t.name) ?? t);
  const { header, size } = layoutGguf(typed, list);
  return { header: { bytes: header, size } };
}
