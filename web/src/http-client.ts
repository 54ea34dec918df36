import type { z } from '@hono/zod-openapi';
import type { LoadProgress } from '../../src/engine/types.ts';
import type { LiveEvent, LiveRow } from '../../src/eval/live.ts';
import type { Measured } from '../../src/methods/measured.ts';
import type { Paper } from '../../src/methods/types.ts';
import type { ChatMessage } from '../../src/model/types.ts';
import type { CompareEvent } from '../../src/serve/compare.ts';
import type * as schemas from '../../src/serve/schemas.ts';
import type { ChatAsk, ChatClient, ChatPart, CompareAsk, Library, ModelList, PageModel } from './client.ts';
import { KeyRequired, Refused } from './client.ts';
import { readEvents } from './events.ts';

const KEY = 'kvasir-api-key';

/** The server that this page came from. */
export class HttpClient implements ChatClient {
  readonly #base: string;

  constructor(base: string) {
    this.#base = base;
  }

  setKey(key: string): void {
    sessionStorage.setItem(KEY, key);
  }

  async models(): Promise<ModelList> {
    const list = await this.#get<z.infer<typeof schemas.ModelList>>('v1/models');
    return { models: list.data.map(pageModel), pullCommand: list.kvasir.pull };
  }

  async methods(): Promise<Library> {
    const { data, kvasir } = await this.#get<z.infer<typeof schemas.MethodList>>('v1/kvasir/methods');
    const methods = data.map(({ paper, options, name, title, family, summary, claim, ...rest }) => ({
      ...{ name, title, family, summary, claim, paper: paper as Paper | null },
      ...{ profile: rest.profile, profileOptional: rest.profileOptional, worksWith: rest.worksWith },
      options: options.map(option => option.name),
    }));
    return { methods, measured: kvasir.measured as Measured | null };
  }

  async *compare({ model, messages, recipes, maxTokens }: CompareAsk, signal: AbortSignal): AsyncGenerator<LiveEvent> {
    const body = { model, messages, recipes, max_tokens: maxTokens };
    const response = await this.#send('v1/kvasir/compare', body, signal);
    for await (const event of readEvents<z.infer<typeof CompareEvent>>(response.body!)) yield liveEvent(event);
  }

  async load(model: string, onProgress: (progress: LoadProgress) => void): Promise<PageModel> {
    const response = await this.#send('load', { model });
    let loaded: PageModel | undefined;
    for await (const event of readEvents<z.infer<typeof schemas.LoadEvent>>(response.body!)) {
      if (event.model) loaded = pageModel(event.model);
      else onProgress({ fraction: event.fraction ?? 0, what: event.what ?? '' });
    }
    if (loaded) return loaded;
    throw new Error('The server ended the load without a result.');
  }

  async *chat(request: ChatAsk, signal: AbortSignal): AsyncGenerator<ChatPart> {
    const response = await this.#send(
      'v1/chat/completions',
      {
        model: request.model,
        messages: request.messages,
        temperature: request.temperature,
        max_tokens: request.maxTokens,
        cache: request.cache,
        ...(request.kv !== undefined && { kv: request.kv }),
        stream: true,
        stream_options: { include_usage: true },
        return_token_ids: true,
      },
      signal,
    );
    for await (const chunk of readEvents<z.infer<typeof schemas.ChatChunk>>(response.body!)) {
      const choice = chunk.choices[0];
      const { usage, kvasir } = chunk;
      yield {
        text: choice?.delta.content ?? '',
        tokens: choice?.token_ids?.length ?? 0,
        ...(choice?.finish_reason && { finishReason: choice.finish_reason }),
        ...(usage &&
          kvasir && {
            figures: {
              promptTokens: usage.prompt_tokens,
              completionTokens: usage.completion_tokens,
              firstTokenMs: kvasir.timings.first_token_ms,
              tokensPerSecond: kvasir.timings.decode_tokens_per_second,
              cacheBytes: kvasir.cache.bytes,
              cachePeak: kvasir.cache.peak,
              recipe: kvasir.cache.recipe,
              kept: kvasir.cache.kept,
            },
          }),
      };
    }
  }

  async countTokens(model: string, messages: readonly ChatMessage[]): Promise<number> {
    const response = await this.#send('tokenize', { model, messages });
    return ((await response.json()) as z.infer<typeof schemas.TokenizeResponse>).count;
  }

  async cacheBytes(): Promise<number> {
    return (await this.#get<{ cacheBytes: number }>('stats')).cacheBytes;
  }

  async #get<T>(path: string): Promise<T> {
    return (await this.#fetch(path, { headers: this.#headers() })).json() as Promise<T>;
  }

  async #send(path: string, body: object, signal?: AbortSignal): Promise<Response> {
    return this.#fetch(path, {
      method: 'POST',
      headers: { ...this.#headers(), 'content-type': 'application/json' },
      body: JSON.stringify(body),
      ...(signal && { signal }),
    });
  }

  #headers(): Record<string, string> {
    const key = sessionStorage.getItem(KEY);
    return key ? { authorization: `Bearer ${key}` } : {};
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    const response = await fetch(this.#base + path, init).catch((error: unknown) => {
      if (init.signal?.aborted) throw error;
      throw new Refused('The server does not answer: it has ended, or cannot be reached.', null);
    });
    if (response.ok) return response;
    if (response.status === 401) throw new KeyRequired('This server wants an API key.');
    const body = (await response.json().catch(() => null)) as { error?: RefusedBody } | null;
    throw new Refused(body?.error?.message ?? `The server answered ${response.status}.`, body?.error?.param ?? null);
  }
}

interface RefusedBody {
  readonly message: string;
  readonly param: string | null;
}

function pageModel({ id, kvasir }: schemas.ModelBody): PageModel {
  const info = kvasir.info as PageModel['info'];
  return { name: id, state: kvasir.state, bundled: kvasir.bundled, bytes: kvasir.bytes, ...(info && { info }) };
}

function liveEvent(event: z.infer<typeof CompareEvent>): LiveEvent {
  if (event.type === 'begin') return { type: 'begin', promptTokens: event.prompt_tokens!, recipes: event.recipes! };
  if (event.type === 'step') return { type: 'step', recipe: event.recipe!, done: event.done!, total: event.total! };
  const { kept_share, bytes_share, first_token_ms, tokens_per_second, ...same } = event.row!;
  const row = {
    ...same,
    keptShare: kept_share,
    bytesShare: bytes_share,
    firstTokenMs: first_token_ms,
    tokensPerSecond: tokens_per_second,
  };
  return { type: 'row', row: row as LiveRow };
}
