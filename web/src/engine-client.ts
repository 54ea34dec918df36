import type { EngineApi, LoadOptions, LoadProgress, ModelInfo } from '../../src/engine/types.ts';
import type { LiveEvent } from '../../src/eval/live.ts';
import type { Method } from '../../src/methods/types.ts';
import type { ChatMessage } from '../../src/model/types.ts';
import type { ChatAsk, ChatClient, ChatPart, CompareAsk, Library, ModelList, PageModel } from './client.ts';

/** An engine in this very browser, with one model. */
export class EngineClient implements ChatClient {
  readonly #engine: EngineApi;
  readonly #options: LoadOptions;
  #bytes = 0;

  constructor(engine: EngineApi, options: LoadOptions) {
    this.#engine = engine;
    this.#options = options;
  }

  async models(): Promise<ModelList> {
    const [info] = await this.#engine.models();
    return { models: [this.#describe(info)], pullCommand: null };
  }

  async methods(): Promise<Library> {
    const { METHODS } = await import('../../src/methods/index.ts');
    const { describeMethod } = await import('../../src/methods/describe.ts');
    const { parseMeasured } = await import('../../src/methods/measured.ts');
    const response = await fetch(new URL('models/kvasir-mini.measured.json', document.baseURI)).catch(() => null);
    return {
      methods: METHODS.map((method: Method) => {
        const described = describeMethod(method);
        return { ...described, options: described.options.map(option => option.name) };
      }),
      measured: response?.ok ? parseMeasured(await response.text()) : null,
    };
  }

  async *compare(request: CompareAsk, signal: AbortSignal): AsyncGenerator<LiveEvent> {
    const { compareLive } = await import('../../src/eval/live.ts');
    yield* compareLive(this.#engine, request, signal);
  }

  async load(_model: string, onProgress: (progress: LoadProgress) => void): Promise<PageModel> {
    const info = await this.#engine.load(this.#options, onProgress);
    this.#bytes = info.weightBytes;
    return this.#describe(info);
  }

  async *chat(request: ChatAsk, signal: AbortSignal): AsyncGenerator<ChatPart> {
    for await (const part of this.#engine.generate(request, signal)) {
      const { usage } = part;
      yield {
        text: part.text,
        tokens: part.tokens.length,
        ...(part.finishReason && { finishReason: part.finishReason }),
        ...(usage && {
          figures: {
            promptTokens: usage.promptTokens,
            completionTokens: usage.completionTokens,
            firstTokenMs: usage.timings.firstTokenMs,
            tokensPerSecond: usage.timings.decodeTokensPerSecond,
            cacheBytes: usage.cache.bytes,
            cachePeak: usage.cache.peak,
            recipe: usage.cache.recipe,
            kept: usage.cache.kept,
          },
        }),
      };
    }
  }

  async countTokens(model: string, messages: readonly ChatMessage[]): Promise<number> {
    return (await this.#engine.tokenize(model, messages)).length;
  }

  async cacheBytes(): Promise<number> {
    return (await this.#engine.stats()).cacheBytes;
  }

  #describe(info: ModelInfo | undefined): PageModel {
    return {
      name: this.#options.name,
      state: info ? 'loaded' : 'available',
      bundled: true,
      bytes: this.#bytes,
      ...(info && { info }),
    };
  }
}
