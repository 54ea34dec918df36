import { openModel as openSource } from './open.ts';
import { directoryFolder, fileSource, pathKind } from './source.node.ts';
import type { ModelFile } from './types.ts';

/**
 * Opens the model at a path: a GGUF file or a Hugging Face folder.
 * Raises `model_not_found` where nothing readable is there, else as `openModel` of open.ts.
 */
export async function openModel(path: string): Promise<ModelFile> {
  return openSource((await pathKind(path)) === 'folder' ? directoryFolder(path) : await fileSource(path));
}
