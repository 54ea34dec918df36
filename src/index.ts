/**
 * Kvasir as a library.
 * @example
 * import { load } from 'kvasir';
 * await using model = await load('kvasir-mini');
 * for await (const part of model.chat([{ role: 'user', content: 'Hello!' }])) process.stdout.write(part.text);
 */
import { createEngine, createEngineThread } from './engine/index.ts';
import { type LoadSettings, Model } from './library.ts';
import { nodeCatalogue, resolveModel } from './model/hub/catalogue.node.ts';

export type * from './engine/types.ts';
export { type ErrorCode, KvasirError } from './errors.ts';
export { type Answer, type CallOptions, ChatSession, collect, type LoadSettings, Model } from './library.ts';
export { describeMethod, type MethodDescription } from './methods/describe.ts';
export { findMethod, METHODS, type MethodName } from './methods/index.ts';
export {
  formatRecipe,
  parseRecipe,
  type Recipe,
  type RecipeInput,
  type RecipeStep,
  type RecipeStepInput,
} from './methods/recipe.ts';
export type { Segment, SegmentKind } from './methods/types.ts';
export type { ChatMessage } from './model/types.ts';
export { createEngine, createEngineThread };

/**
 * Loads a model: a name from `kvasir models` (`kvasir-mini` is bundled), a GGUF file or a Hugging Face folder.
 * @example await using model = await load('kvasir-mini')
 */
export async function load(model: string, settings: LoadSettings = {}): Promise<Model> {
  const { engine: shared, onProgress, ...options } = settings;
  const found = await resolveModel(nodeCatalogue(), model);
  const engine = shared ?? (await createEngineThread());
  try {
    const info = await engine.load({ ...found, ...options, name: options.name ?? found.name }, onProgress);
    return new Model(engine, info, shared === undefined);
  } catch (error) {
    if (!shared) await engine.dispose();
    throw error;
  }
}

/** `kvasir.load('kvasir-mini')` for those who like the name in front. */
export default { load };
