import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { type ErrorCode, KvasirError } from '../errors.ts';

/** Reasons that only exist over HTTP; the others are KvasirError's. */
export type HttpErrorCode =
  | ErrorCode
  | 'invalid_api_key'
  | 'host_not_allowed'
  | 'origin_not_allowed'
  | 'not_found'
  | 'method_not_allowed'
  | 'body_too_large'
  | 'unsupported_media_type'
  | 'shutting_down'
  | 'internal_error';

/** OpenAI's error shape. `param` is the field at fault in HTTP's spelling, with its path: `messages[0].role`. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: HttpErrorCode };
}

/** A refusal that has no counterpart in the engine. */
export class HttpError extends Error {
  override readonly name = 'HttpError';
  readonly code: HttpErrorCode;
  readonly param: string | null;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: HttpErrorCode, message: string, param: string | null = null, headers: Record<string, string> = {}) {
    super(message);
    this.code = code;
    this.param = param;
    this.headers = headers;
  }
}

const STATUS: Readonly<Record<HttpErrorCode, ContentfulStatusCode>> = {
  invalid_request: 400,
  invalid_recipe: 400,
  unsupported: 400,
  context_length_exceeded: 400,
  invalid_api_key: 401,
  host_not_allowed: 403,
  origin_not_allowed: 403,
  model_not_found: 404,
  not_found: 404,
  method_not_allowed: 405,
  body_too_large: 413,
  unsupported_media_type: 415,
  queue_full: 429,
  // Nobody reads it: the client has gone. 499 is what proxies log for that.
  aborted: 499 as ContentfulStatusCode,
  internal_error: 500,
  backend_failed: 500,
  bad_model_file: 500,
  unknown_architecture: 500,
  unknown_tensor_type: 500,
  checksum_mismatch: 500,
  download_failed: 502,
  kv_cache_full: 503,
  memory_limit: 503,
  disposed: 503,
  shutting_down: 503,
};

/** Engine option -> request field. */
const FIELDS: Readonly<Record<string, string>> = {
  maxTokens: 'max_tokens',
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
  repetitionPenalty: 'repetition_penalty',
  frequencyPenalty: 'frequency_penalty',
  presencePenalty: 'presence_penalty',
  logitBias: 'logit_bias',
  ignoreEnd: 'ignore_eos',
  text: 'prompt',
  tokens: 'prompt',
  ids: 'tokens',
};

const RETRY: ReadonlySet<HttpErrorCode> = new Set(['queue_full', 'kv_cache_full', 'shutting_down']);

export interface ErrorResponse {
  readonly status: ContentfulStatusCode;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ErrorBody;
}

/** What a client sees of a thrown thing. Anything not raised on purpose shows as `internal_error`, without its text. */
export function toErrorResponse(error: unknown): ErrorResponse {
  if (error instanceof HttpError) return response(error.code, error.message, error.param, error.headers);
  if (error instanceof KvasirError) {
    const param = error.code === 'model_not_found' ? 'model' : fieldOf(error.field);
    const message = sentence(error, param);
    return response(error.code, message, param);
  }
  return response('internal_error', 'The server failed on this request; its log has the reason.', null);
}

/** The message, with the value and what is allowed where it does not say so itself, and the field as requests spell it. */
function sentence(error: KvasirError, param: string | null): string {
  const { message, field, value, allowed } = error.toJSON();
  const named = param !== null && field !== undefined && message.startsWith(`${field} `);
  let text = named ? param + message.slice(field.length) : message;
  const add = (part: string) => {
    text = `${text.replace(/\.$/, '')}; ${part}`;
  };
  if (value !== undefined && !text.includes(String(value))) add(`got ${JSON.stringify(value)}`);
  const list = typeof allowed === 'object' ? allowed.join(', ') || 'none' : allowed;
  if (list !== undefined && !text.includes(list)) add(`allowed: ${list}`);
  return text;
}

/** `tokens.3` -> `prompt[3]` */
function fieldOf(field: string | undefined): string | null {
  if (field === undefined) return null;
  const [name = '', ...rest] = field.split('.');
  const start = Object.hasOwn(FIELDS, name) ? FIELDS[name]! : name;
  return rest.reduce((path, key) => (/^\d+$/.test(key) ? `${path}[${key}]` : `${path}.${key}`), start);
}

function response(
  code: HttpErrorCode,
  message: string,
  param: string | null,
  headers: Readonly<Record<string, string>> = {},
): ErrorResponse {
  const status = STATUS[code];
  return {
    status,
    headers: RETRY.has(code) ? { ...headers, 'retry-after': '1' } : headers,
    body: { error: { message, type: typeOf(status), param, code } },
  };
}

function typeOf(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 403) return 'permission_error';
  if (status === 429) return 'rate_limit_error';
  return status < 500 ? 'invalid_request_error' : 'server_error';
}
