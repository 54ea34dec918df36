/** Stable machine-readable reasons. A code never changes meaning once released. */
export type ErrorCode =
  | 'invalid_request'
  | 'invalid_recipe'
  | 'unsupported'
  | 'context_length_exceeded'
  | 'kv_cache_full'
  | 'memory_limit'
  | 'queue_full'
  | 'model_not_found'
  | 'bad_model_file'
  | 'unknown_architecture'
  | 'unknown_tensor_type'
  | 'download_failed'
  | 'checksum_mismatch'
  | 'aborted'
  | 'disposed'
  | 'backend_failed';

export interface ErrorDetails {
  /** Name of the option, field, flag, tensor or file that is wrong. */
  field?: string;
  /** The offending value, as given. */
  value?: unknown;
  /** What would have been accepted, in words or as a list. */
  allowed?: string | readonly (string | number)[];
  cause?: unknown;
}

/** Every error that Kvasir raises on purpose. Anything else is a bug. */
export class KvasirError extends Error {
  override readonly name = 'KvasirError';
  readonly code: ErrorCode;
  readonly field?: string;
  readonly value?: unknown;
  readonly allowed?: string | readonly (string | number)[];

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    if (details.field !== undefined) this.field = details.field;
    if (details.value !== undefined) this.value = details.value;
    if (details.allowed !== undefined) this.allowed = details.allowed;
  }

  /** A plain object that crosses a thread or a wire; `fromJSON` restores it. */
  toJSON(): ErrorJSON {
    return {
      code: this.code,
      message: this.message,
      ...(this.field !== undefined && { field: this.field }),
      ...(this.value !== undefined && { value: printable(this.value) }),
      ...(this.allowed !== undefined && { allowed: this.allowed }),
    };
  }

  static fromJSON(json: ErrorJSON): KvasirError {
    return new KvasirError(json.code, json.message, json);
  }

  /** Any thrown thing as a KvasirError; unknown ones become `fallback`, with the original as cause. */
  static from(error: unknown, fallback: ErrorCode = 'backend_failed'): KvasirError {
    if (error instanceof KvasirError) return error;
    const message = error instanceof Error ? error.message : String(error);
    return new KvasirError(fallback, message, { cause: error });
  }
}

export interface ErrorJSON {
  code: ErrorCode;
  message: string;
  field?: string;
  value?: unknown;
  allowed?: string | readonly (string | number)[];
}

function printable(value: unknown): unknown {
  const type = typeof value;
  if (value === null || type === 'number' || type === 'boolean') return value;
  const text = type === 'string' ? (value as string) : String(value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}
