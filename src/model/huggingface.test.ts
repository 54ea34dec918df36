import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { dequantizeRows } from './dequantize.ts';
import { expectedTensors } from './layout.ts';
import { openModel as openPath } from './open.node.ts';
import { openModel } from './open.ts';
import { memoryFolder } from './source.ts';
import { TINY, writeSafetensors } from './tiny-files.ts';
import { type FolderOptions, type FolderTensors, tinyFolder } from './tiny-folder.ts';
import type { ModelFile } from './types.ts';

const open = (options: FolderOptions = {}) => openModel(memoryFolder(tinyFolder(options), 'tiny'));
const values = async (model: ModelFile, name: string) => {
  const { type, columns } = model.tensors.get(name)!;
  return dequantizeRows(type, await model.read(name), columns);
};

describe('the folders written by transformers', () => {
  const names = ['llama', 'llama-linear', 'llama-yarn', 'llama3-rope', 'mistral', 'qwen2', 'qwen3', 'gemma3'];
  test.each(names)('%s opens, with all its tensors', async name => {
    const model = await openPath(fileURLToPath(new URL(`../../test/models/${name}`, import.meta.url)));
    expect([...model.tensors.keys()]).toEqual([...expectedTensors(model.config).keys()]);
    for (const { name: tensor, rows, columns, byteLength } of model.tensors.values()) {
      const bytes = await model.read(tensor);
      expect(bytes.length).toBe(byteLength);
      expect(bytes.length % (rows * columns)).toBe(0);
    }
    expect(model.tokenizer).toMatchObject({ bosToken: '<|endoftext|>', eosToken: '<|im_end|>', addBos: false });
    expect([...model.tokenizer.endTokens].sort()).toEqual([0, 2]);
    expect(model.tokenizer.chatTemplate).toContain('add_generation_prompt');
    await model.close();
  });

  test('each says what sets it apart', async () => {
    const configOf = async (name: string) => {
      const model = await openPath(fileURLToPath(new URL(`../../test/models/${name}`, import.meta.url)));
      await model.close();
      return model.config;
    };
    expect(await configOf('mistral')).toMatchObject({
      architecture: 'llama',
      layerWindow: [100, 100],
      tiedEmbeddings: false,
    });
    expect((await configOf('llama-yarn')).ropes[0].magnitude).toBeCloseTo(1.138629436, 8);
    expect((await configOf('llama-linear')).ropes[0].inverseFrequencies[0]).toBe(0.25);
    expect(await configOf('gemma3')).toMatchObject({
      layerWindow: [32, 32, 0, 32], layerRope: [1, 1, 0, 1], attentionScale: 1 / Math.sqrt(24), embeddingScale: 8,
    }); // biome-ignore format: reads as one record
  });
});

describe('configuration', () => {
  test('sizes, and what the architecture adds', async () => {
    expect((await open()).config).toMatchObject({
      ...TINY,
      architecture: 'llama',
      vocab: 261,
      context: 128,
      qkNorm: false,
    });
    expect((await open({ modelType: 'qwen2' })).config).toMatchObject({ qkvBias: true });
    expect((await open({ modelType: 'qwen3' })).config).toMatchObject({ qkNorm: true });
    expect((await open({ modelType: 'gemma3_text' })).config).toMatchObject({ postNorms: true, layerWindow: [16, 0] });
  });

  test('windows: listed by layer, by a first layer, or none', async () => {
    const listed = { sliding_window: 9, layer_types: ['full_attention', 'sliding_attention'] };
    expect((await open({ modelType: 'qwen3', config: listed })).config.layerWindow).toEqual([0, 9]);
    const first = { sliding_window: 9, use_sliding_window: true, max_window_layers: 1 };
    expect((await open({ modelType: 'qwen2', config: first })).config.layerWindow).toEqual([0, 9]);
    expect(
      (await open({ modelType: 'qwen2', config: { ...first, use_sliding_window: false } })).config.layerWindow,
    ).toEqual([0, 0]);
    expect((await open({ modelType: 'mistral', config: { sliding_window: null } })).config.layerWindow).toEqual([0, 0]);
    expect((await open({ modelType: 'mistral', config: { sliding_window: 7 } })).config.layerWindow).toEqual([7, 7]);
  });

  test.each<[string, FolderOptions, string, string]>([
    ['another model', { config: { model_type: 'mamba' } }, 'unknown_architecture', 'model_type'],
    ['no model type', { config: { model_type: undefined } }, 'unknown_architecture', 'model_type'],
    ['no size', { config: { hidden_size: undefined } }, 'bad_model_file', 'hidden_size'],
    ['a size in words', { config: { num_hidden_layers: 'two' } }, 'bad_model_file', 'num_hidden_layers'],
    ['a huge size', { config: { num_hidden_layers: 1e9 } }, 'bad_model_file', 'layers'],
    ['half a layer', { config: { num_hidden_layers: 1.5 } }, 'bad_model_file', 'num_hidden_layers'],
    ['an odd head', { config: { head_dim: 7 } }, 'bad_model_file', 'head_dim'],
    ['heads that do not share', { config: { num_key_value_heads: 3 } }, 'bad_model_file', 'kvHeads'],
    ['another activation', { config: { hidden_act: 'relu' } }, 'unsupported', 'hidden_act'],
    ['quantized weights', { config: { quantization_config: { bits: 4 } } }, 'unsupported', 'quantization_config'],
    ['an MLP with biases', { config: { mlp_bias: true } }, 'unsupported', 'mlp_bias'],
    [
      'capped logits',
      { modelType: 'gemma3_text', config: { final_logit_softcapping: 30 } },
      'unsupported',
      'final_logit_softcapping',
    ],
    [
      'attention both ways',
      { modelType: 'gemma3_text', config: { use_bidirectional_attention: true } },
      'unsupported',
      'use_bidirectional_attention',
    ],
    [
      'a kind of layer not known',
      { config: { layer_types: ['full_attention', 'linear_attention'] } },
      'unsupported',
      'layer_types',
    ],
    [
      'scaling by length',
      { config: { rope_scaling: { rope_type: 'dynamic', factor: 2 } } },
      'unsupported',
      'rope_type',
    ],
    ['an end token outside', { config: { eos_token_id: 261 } }, 'bad_model_file', 'eos_token_id'],
    ['no configuration', { files: { 'config.json': undefined } }, 'bad_model_file', 'config.json'],
    ['no tokenizer', { files: { 'tokenizer.json': undefined } }, 'bad_model_file', 'tokenizer.json'],
    ['a list for a configuration', { files: { 'config.json': [1] } }, 'bad_model_file', 'config.json'],
    ['no JSON', { files: { 'config.json': '{"a":' } }, 'bad_model_file', 'config.json'],
    ['no UTF-8', { files: { 'config.json': Uint8Array.of(0x7b, 0xff, 0x7d) } }, 'bad_model_file', 'config.json'],
  ])('%s is refused with the field', async (_, options, code, field) => {
    await expect(open(options)).rejects.toMatchObject({ name: 'KvasirError', code, field });
  });
});

describe('weights', () => {
  test('F32, F16 and BF16 come as they are stored', async () => {
    const exact = await values(await open(), 'layers.1.down');
    for (const type of ['F16', 'BF16'] as const) {
      const model = await open({ type });
      expect(model.tensors.get('layers.1.down')).toMatchObject({ type, rows: 32, columns: 64, byteLength: 4096 });
      const got = await values(model, 'layers.1.down');
      got.forEach((v, i) => { expect(Math.abs(v - exact[i])).toBeLessThan(0.004); }); // biome-ignore format: one check
    }
    expect(await (await open()).read('embed', 3, 5)).toEqual(
      (await (await open()).read('embed')).slice(3 * 128, 5 * 128),
    );
  });

  test('Gemma norms hold the one that the file leaves out, in F32', async () => {
    for (const type of ['F32', 'BF16'] as const) {
      let stored: Float32Array | undefined;
      const model = await open({
        modelType: 'gemma3_text',
        type,
        tensors: list => {
          stored = dequantizeRows(type, list['model.layers.0.self_attn.k_norm.weight'].data, 8);
          return list;
        },
      });
      expect(model.tensors.get('layers.0.k_norm')).toMatchObject({ type: 'F32', rows: 1, columns: 8, byteLength: 32 });
      expect(await values(model, 'layers.0.k_norm')).toEqual(stored!.map(v => Math.fround(v + 1)));
      expect(model.tensors.get('layers.0.k')!.type).toBe(type);
    }
  });

  test('an output matrix of its own, or one that repeats the embedding', async () => {
    const withHead = (list: FolderTensors) => ({ ...list, 'lm_head.weight': list['model.embed_tokens.weight'] });
    expect((await open({ tensors: withHead })).tensors.has('lm_head')).toBe(false);
    const untied = await open({ tensors: withHead, config: { tie_word_embeddings: false } });
    expect(untied.config.tiedEmbeddings).toBe(false);
    expect(untied.tensors.get('lm_head')).toMatchObject({ rows: 261, columns: 32 });
    await expect(open({ config: { tie_word_embeddings: false } })).rejects.toMatchObject({ field: 'lm_head.weight' });
  });

  test('shards: an index names the files', async () => {
    const files = tinyFolder({ tensors: list => list });
    let all: FolderTensors = {};
    tinyFolder({ tensors: list => { all = list; return list; } }); // biome-ignore format: one step
    const entries = Object.entries(all);
    const halves = [entries.slice(0, 5), entries.slice(5)];
    const map = Object.fromEntries(halves.flatMap((half, i) => half.map(([name]) => [name, `part-${i}.safetensors`])));
    const index = new TextEncoder().encode(JSON.stringify({ weight_map: map }));
    const sharded = new Map([...files, ['model.safetensors.index.json', index]]);
    sharded.delete('model.safetensors');
    halves.forEach((half, i) => { sharded.set(`part-${i}.safetensors`, writeSafetensors(Object.fromEntries(half))); }); // biome-ignore format: one step
    const model = await openModel(memoryFolder(sharded));
    expect(await values(model, 'norm')).toEqual(await values(await open(), 'norm'));
    expect(await values(model, 'embed')).toEqual(await values(await open(), 'embed'));

    sharded.delete('part-1.safetensors');
    await expect(openModel(memoryFolder(sharded))).rejects.toMatchObject({
      code: 'bad_model_file',
      field: 'part-1.safetensors',
    });
  });

  test('a file outside the folder is not opened', async () => {
    const { mkdtemp, rm, writeFile } = await import('node:fs/promises');
    const folder = await mkdtemp('/tmp/kvasir-folder-');
    try {
      for (const [name, bytes] of tinyFolder())
        if (name !== 'model.safetensors') await writeFile(`${folder}/${name}`, bytes);
      for (const path of ['../secret.safetensors', '/etc/passwd', '..', 'a\\b']) {
        await writeFile(`${folder}/model.safetensors.index.json`, JSON.stringify({ weight_map: { norm: path } }));
        await expect(openPath(folder)).rejects.toMatchObject({ code: 'bad_model_file', value: path });
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  const edit = (name: string, by: Partial<FolderTensors[string]>) => (list: FolderTensors) => ({
    ...list,
    [name]: { ...list[name], ...by },
  });
  const q = 'model.layers.0.self_attn.q_proj.weight';
  test.each<[string, FolderOptions, string, RegExp]>([
    ['a missing tensor', { tensors: ({ [q]: _, ...rest }) => rest }, 'bad_model_file', /q_proj\.weight" is missing/],
    ['another shape', { tensors: edit(q, { shape: [16, 64] }) }, 'bad_model_file', /shape \[16, 64\]/],
    [
      'a shape that its bytes do not fill',
      { tensors: edit(q, { shape: [32, 33] }) },
      'bad_model_file',
      /4096 bytes for a shape/,
    ],
    ['an empty shape', { tensors: edit(q, { shape: [] }) }, 'bad_model_file', /shape/],
    ['a negative shape', { tensors: edit(q, { shape: [-32, -32] }) }, 'bad_model_file', /shape/],
    [
      'a type not read',
      { tensors: edit(q, { dtype: 'F8_E4M3' }) },
      'unknown_tensor_type',
      /q_proj\.weight" has type F8_E4M3/,
    ],
    [
      'a tensor for nothing',
      { tensors: l => ({ ...l, 'model.layers.0.self_attn.o_proj.bias': l['model.norm.weight'] }) },
      'unsupported',
      /o_proj\.bias/,
    ],
    ['an empty file', { files: { 'model.safetensors': new Uint8Array(0) } }, 'bad_model_file', /header length/],
    [
      'a header longer than the file',
      { files: { 'model.safetensors': Uint8Array.of(255, 255, 0, 0, 0, 0, 0, 0, 123, 125) } },
      'bad_model_file',
      /header length/,
    ],
    [
      'no weights',
      { files: { 'model.safetensors': undefined } },
      'bad_model_file',
      /header|has no model\.safetensors|missing/,
    ],
  ])('%s is refused', async (_, options, code, message) => {
    await expect(open(options)).rejects.toMatchObject({
      name: 'KvasirError',
      code,
      message: expect.stringMatching(message),
    });
  });

  test('tensors that overlap', async () => {
    const two = {
      a: { dtype: 'F32', shape: [2], data: new Uint8Array(8) },
      b: { dtype: 'F32', shape: [2], data: new Uint8Array(8) },
    };
    const file = writeSafetensors(two);
    const text = Buffer.from(file).toString('latin1').replace('[8,16]', '[4,12]');
    await expect(
      open({ files: { 'model.safetensors': new Uint8Array(Buffer.from(text, 'latin1')) } }),
    ).rejects.toMatchObject({
      message: expect.stringMatching(/overlap/),
    });
  });
});

describe('tokenizer files', () => {
  test('a template file goes before the one in the configuration; of several, the default one', async () => {
    expect((await open({ files: { 'chat_template.jinja': 'from a file' } })).tokenizer.chatTemplate).toBe(
      'from a file',
    );
    const several = {
      chat_template: [
        { name: 'tool_use', template: 'no' },
        { name: 'default', template: 'yes' },
      ],
    };
    expect((await open({ files: { 'tokenizer_config.json': several } })).tokenizer.chatTemplate).toBe('yes');
    expect((await open({ files: { 'tokenizer_config.json': {} } })).tokenizer.chatTemplate).toBe(null);
  });

  test('BOS is put in front where the post-processor or the configuration says so', async () => {
    const { byteLevelTokenizer } = await import('./tiny-folder.ts');
    const processed = {
      ...byteLevelTokenizer(),
      post_processor: {
        type: 'TemplateProcessing',
        single: [{ SpecialToken: { id: '<|endoftext|>', type_id: 0 } }, { Sequence: { id: 'A' } }],
      },
    };
    expect((await open({ files: { 'tokenizer.json': processed } })).tokenizer.addBos).toBe(true);
    const flagged = { bos_token: '<|endoftext|>', add_bos_token: true };
    expect((await open({ files: { 'tokenizer_config.json': flagged } })).tokenizer.addBos).toBe(true);
    expect((await open()).tokenizer.addBos).toBe(false);
  });
});

test('the fingerprint follows weights, configuration and tokenizer', async () => {
  const prints = await Promise.all([
    open(),
    open(),
    open({ type: 'F16' }),
    open({ config: { rope_theta: 20_000 } }),
    open({ files: { 'generation_config.json': {} } }),
  ]);
  const [first, again, ...others] = prints.map(model => model.fingerprint);
  expect(again).toBe(first);
  expect(new Set([first, ...others]).size).toBe(4);
});

test('a path that leads nowhere is a model not found', async () => {
  await expect(openPath('/nowhere/at/all')).rejects.toMatchObject({
    code: 'model_not_found',
    field: 'path',
    value: '/nowhere/at/all',
  });
});
