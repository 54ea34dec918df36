import type { Context } from 'hono';
import type { GeneratePart, ModelInfo, Usage } from '../engine/types.ts';
import type { ActiveRequest } from './active.ts';
import { type Answer, collect, extensionBody, sumUsage, usageBody } from './answer.ts';
import type { Services } from './app.ts';
import type { ChatRequestBody, CompletionRequestBody } from './schemas.ts';
import { sseResponse } from './sse.ts';

/** What makes a chat completion differ from a text completion on the wire. */
export interface Wire {
  readonly idPrefix: string;
  readonly objects: { readonly whole: string; readonly chunk: string };
  /** A choice of a whole response, less index, finish_reason and token_ids. */
  whole(answer: Answer): object;
  /** The same of a chunk. `offset`: characters of this answer sent before. */
  chunk(part: GeneratePart, offset: number): object;
  /** What a stream says of each answer before its first part. */
  opening?(): object;
}

interface Answering {
  readonly wire: Wire;
  readonly model: string;
  readonly answers: number;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly tokenIds: boolean;
  /** Loads the model; work starts here, not before. */
  prepare(signal: AbortSignal): Promise<ModelInfo>;
  /** `index` of the parts counts through all answers. */
  generate(signal: AbortSignal): AsyncIterable<GeneratePart>;
}

/**
 * Runs a request to its end, whole or as a stream.
 * @param own what its body does not say
 */
export async function answer(
  c: Context,
  { pool, active, sse }: Services,
  body: ChatRequestBody | CompletionRequestBody,
  own: Pick<Answering, 'wire' | 'answers' | 'generate'>,
): Promise<Response> {
  const asked: Answering = {
    ...own,
    model: body.model,
    stream: body.stream ?? false,
    includeUsage: body.stream_options?.include_usage ?? false,
    tokenIds: body.return_token_ids ?? false,
    prepare: signal => pool.ensure(body.model, signal),
  };
  const run = active.begin(c.req.raw.signal);
  if (asked.stream) return sseResponse(chunks(asked, run), run, sse);
  try {
    const info = await asked.prepare(run.signal);
    const { answers, usage } = await collect(asked.generate(run.signal), asked.answers);
    return c.json({
      ...head(asked, info),
      object: asked.wire.objects.whole,
      choices: answers.map((one, index) => ({
        index,
        ...asked.wire.whole(one),
        finish_reason: one.finishReason,
        ...(asked.tokenIds && { token_ids: one.tokens }),
      })),
      usage: usageBody(usage),
      kvasir: extensionBody(usage),
    });
  } catch (error) {
    // The signal's reason says more than the engine's `aborted`; where nobody aborted, other prompts of this request may run.
    const reason = run.signal.aborted ? run.signal.reason : error;
    run.abort(error);
    throw reason;
  } finally {
    run.end();
  }
}

async function* chunks(asked: Answering, run: ActiveRequest): AsyncGenerator<object> {
  const { wire, answers, includeUsage, tokenIds } = asked;
  const info = await asked.prepare(run.signal);
  const top = { ...head(asked, info), object: wire.objects.chunk };
  const sent = new Array<number>(answers).fill(0);
  const opened = new Array<boolean>(answers).fill(false);
  const usages: Usage[] = [];
  // With usage asked for, OpenAI's chunks all have the field.
  const noUsage = includeUsage ? { usage: null } : {};
  let last: object | undefined;
  for await (const part of asked.generate(run.signal)) {
    const { index } = part;
    if (part.usage) usages.push(part.usage);
    if (last) yield last;
    last = undefined;
    if (wire.opening && !opened[index]) {
      yield { ...top, choices: [{ index, ...wire.opening(), finish_reason: null }], ...noUsage };
      opened[index] = true;
    }
    if (part.text === '' && !part.finishReason && !part.logprobs?.length && !tokenIds) continue;
    last = {
      ...top,
      choices: [
        {
          index,
          ...wire.chunk(part, sent[index]!),
          finish_reason: part.finishReason ?? null,
          ...(tokenIds && { token_ids: part.tokens }),
        },
      ],
      ...noUsage,
    };
    sent[index]! += part.text.length;
    // Held back only where it may be the last one, which carries the figures.
    if (!part.finishReason) {
      yield last;
      last = undefined;
    }
  }
  const usage = sumUsage(usages);
  const kvasir = extensionBody(usage);
  if (!includeUsage) {
    yield { ...(last ?? { ...top, choices: [] }), kvasir };
    return;
  }
  if (last) yield last;
  yield { ...top, choices: [], usage: usageBody(usage), kvasir };
}

function head(asked: Answering, info: ModelInfo) {
  return {
    id: `${asked.wire.idPrefix}-${crypto.randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: asked.model,
    system_fingerprint: `kvasir-${info.fingerprint.slice(0, 16)}`,
  };
}
