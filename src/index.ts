/**
 * Kvasir as a library.
 * @example
 * import { load } from 'kvasir';
 * await using model = await load('kvasir-mini');
 * for await (const part of model.chat([{ role: 'user', content: 'Hello!' }])) process.stdout.write(part.text);
 */
export { createEngine, createEngineThread, load } from './engine/index.node.ts';
export type * from './engine/types.ts';
export { type ErrorCode, KvasirError } from './errors.ts';
export { type Answer, type CallOptions, ChatSession, collect, type LoadSettings, Model } from './library.ts';
export type { ChatMessage } from './model/types.ts';

import { load } from './engine/index.node.ts';

/** `kvasir.load('kvasir-mini')` for those who like the name in front. */
export default { load };
