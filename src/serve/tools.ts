import type { Context } from 'hono';
import type { LoadProgress } from '../engine/types.ts';
import type { Services } from './app.ts';
import { readBody } from './body.ts';
import { HttpError } from './errors.ts';
import { chatMessages } from './requests.ts';
import { DetokenizeRequest, LoadRequest, TokenizeRequest } from './schemas.ts';
import { sseResponse } from './sse.ts';

/** POST /tokenize */
export async function tokenize(c: Context, { engine, pool, active }: Services): Promise<Response> {
  const body = await readBody(c, TokenizeRequest);
  const { prompt, messages } = body;
  if ((prompt === undefined) === (messages === undefined)) {
    throw new HttpError('invalid_request', 'Give exactly one of prompt and messages.', 'prompt');
  }
  if (messages !== undefined && body.add_special_tokens !== undefined) {
    throw new HttpError(
      'invalid_request',
      'add_special_tokens goes with prompt; a chat template has its own.',
      'add_special_tokens',
    );
  }
  const run = active.begin(c.req.raw.signal);
  try {
    const info = await pool.ensure(body.model, run.signal);
    const input = prompt ?? chatMessages(messages!);
    const options = body.add_special_tokens === undefined ? undefined : { addBos: body.add_special_tokens };
    const tokens = await engine.tokenize(body.model, input, options);
    return c.json({ tokens, count: tokens.length, max_model_len: info.context });
  } finally {
    run.end();
  }
}

/** POST /detokenize */
export async function detokenize(c: Context, { engine, pool, active }: Services): Promise<Response> {
  const body = await readBody(c, DetokenizeRequest);
  const run = active.begin(c.req.raw.signal);
  try {
    await pool.ensure(body.model, run.signal);
    return c.json({ prompt: await engine.detokenize(body.model, body.tokens) });
  } finally {
    run.end();
  }
}

/** POST /load: progress as events, the model in the last one. */
export async function load(c: Context, { pool, active, sse }: Services): Promise<Response> {
  const { model } = await readBody(c, LoadRequest);
  await pool.get(model);
  const run = active.begin(c.req.raw.signal);
  const events = async function* () {
    let progress: LoadProgress | undefined;
    let wake: (() => void) | undefined;
    let settled = false;
    const done = pool
      .ensure(model, run.signal, latest => {
        progress = latest;
        wake?.();
      })
      .finally(() => {
        settled = true;
        wake?.();
      });
    done.catch(() => {});
    // Only the latest progress is kept: a slow reader skips steps.
    while (!settled) {
      if (progress) {
        const { fraction, what } = progress;
        progress = undefined;
        yield { fraction, what };
      } else {
        await new Promise<void>(resolve => {
          wake = resolve;
        });
        wake = undefined;
      }
    }
    await done;
    yield { fraction: 1, model: await pool.get(model) };
  };
  return sseResponse(events(), run, sse);
}
