import type { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { HttpError } from './errors.ts';
import { UNSUPPORTED } from './schemas.ts';

/** The body as the schema says, or an error that names field, value and what is allowed. */
export async function readBody<S extends z.ZodType>(c: Context, schema: S): Promise<z.infer<S>> {
  const type = (c.req.header('content-type') ?? '').split(';')[0]!.trim().toLowerCase();
  if (type !== 'application/json') {
    throw new HttpError('unsupported_media_type', `content-type must be application/json; got ${type || 'none'}`);
  }
  return check(parseJson(new Uint8Array(await c.req.arrayBuffer())), schema);
}

function parseJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new HttpError('invalid_request', 'The body is not valid UTF-8.');
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new HttpError('invalid_request', `The body is not valid JSON: ${(error as Error).message}`);
  }
}

export function check<S extends z.ZodType>(raw: unknown, schema: S): z.infer<S> {
  if (raw === null || typeof raw !== 'object' || Array.isArray(raw)) {
    throw new HttpError('invalid_request', `The body must be a JSON object; got ${show(raw)}.`);
  }
  const body = withoutNulls(raw) as Record<string, unknown>;
  refuseUnsupported(body, '');
  if (Array.isArray(body.messages)) {
    body.messages.forEach((message, i) => {
      refuseUnsupported(message, `messages[${i}].`);
    });
  }
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  throw refusal(result.error.issues[0]!, body);
}

/** Clients send null for "not set", and give back messages as they got them, nulls included. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return typeof value[0] === 'number' ? value : value.map(withoutNulls);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, item]) => (item === null ? [] : [[key, withoutNulls(item)]])),
  );
}

function refuseUnsupported(value: unknown, prefix: string): void {
  if (value === null || typeof value !== 'object') return;
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(UNSUPPORTED, key)) continue;
    const field = prefix + key;
    throw new HttpError('unsupported', `${field}: ${UNSUPPORTED[key]}.`, field);
  }
}

type Issue = z.core.$ZodIssue;

function refusal(issue: Issue, body: unknown): HttpError {
  const parent = fieldName(issue.path);
  if (issue.code === 'unrecognized_keys') {
    const field = parent ? `${parent}.${issue.keys[0]}` : issue.keys[0]!;
    return new HttpError('unsupported', `${field}: unknown field.`, field);
  }
  const value = valueAt(body, issue.path);
  const allowed = allowedBy(issue);
  if (value === undefined) {
    return new HttpError('invalid_request', `${parent} is required: ${allowed}.`, parent);
  }
  return new HttpError('invalid_request', `${parent} must be ${allowed}; got ${show(value)}.`, parent);
}

function fieldName(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (name, key) => (typeof key === 'number' ? `${name}[${key}]` : name ? `${name}.${String(key)}` : String(key)),
    '',
  );
}

function valueAt(body: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) => (value === null || value === undefined ? undefined : (value as Record<PropertyKey, unknown>)[key]),
    body,
  );
}

const NOUNS: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'a string',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
};

function allowedBy(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return NOUNS[issue.expected] ?? (issue.message.startsWith('Invalid input') ? issue.expected : issue.message);
    case 'too_small':
      return bound(issue.origin, issue.inclusive === false ? 'more than' : 'at least', Number(issue.minimum));
    case 'too_big':
      return bound(issue.origin, issue.inclusive === false ? 'less than' : 'at most', Number(issue.maximum));
    case 'invalid_value':
      return issue.values.map(value => JSON.stringify(value)).join(' or ');
    case 'invalid_key':
      return 'a token id (its decimal digits)';
    default:
      return issue.message;
  }
}

function bound(origin: string, words: string, limit: number): string {
  if (origin === 'string') return `${words} ${limit} characters long`;
  if (origin === 'array') return `a list of ${words} ${limit} items`;
  return `${words} ${limit}`;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}
