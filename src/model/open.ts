import { KvasirError } from '../errors.ts';
import { openGguf } from './gguf.ts';
import { openHuggingFace } from './huggingface.ts';
import type { FileFolder } from './source.ts';
import type { ByteSource, ModelFile } from './types.ts';

/**
 * Opens a model: a GGUF file or a Hugging Face folder. (`open.node.ts` takes a path.)
 *
 * @param source a file, or a folder of files. The model owns a file given here and closes it; after an error it is
 *   closed already.
 *
 * Raises `bad_model_file`, `unknown_architecture`, `unknown_tensor_type` or `unsupported`.
 */
export async function openModel(source: ByteSource | FileFolder): Promise<ModelFile> {
  if ('open' in source) return openHuggingFace(source);
  try {
    const start = await source.read(0, Math.min(4, source.size));
    if (String.fromCharCode(...start) === 'GGUF') return await openGguf(source);
    throw new KvasirError('bad_model_file', `${source.name} is no GGUF file: it does not begin with "GGUF".`, {
      field: source.name,
      allowed: 'a GGUF file, or a folder with config.json, tokenizer.json and model.safetensors',
    });
  } catch (error) {
    await source.close();
    throw error;
  }
}
