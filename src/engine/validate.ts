import { FORMAT_NAMES } from '../cache/types.ts';
import { KvasirError } from '../errors.ts';
import { parseRecipe } from '../methods/recipe.ts';
import { checkSegmentName, checkSegments } from './check-segments.ts';
import type { GenerateRequest, LoadOptions, ScoreRequest } from './types.ts';

/** Ranges of the numeric options: the one table that requests, the command line and the HTTP schema check against. */
export const NUMBER_RANGES = {
  temperature: { min: 0, max: 2 },
  topK: { min: 0, max: 1_000_000, integer: true },
  topP: { min: 0, max: 1, above: true },
  minP: { min: 0, max: 1 },
  repetitionPenalty: { min: 0, max: 10, above: true },
  frequencyPenalty: { min: -2, max: 2 },
  presencePenalty: { min: -2, max: 2 },
  seed: { min: 0, max: Number.MAX_SAFE_INTEGER, integer: true },
  maxTokens: { min: 1, max: 10_000_000, integer: true },
  logprobs: { min: 0, max: 20, integer: true },
  n: { min: 1, max: 16, integer: true },
} as const satisfies Record<string, NumberRange>;

export interface NumberRange {
  readonly min: number;
  readonly max: number;
  readonly integer?: boolean;
  /** `min` itself is not allowed. */
  readonly above?: boolean;
}

export const LOAD_CHOICES = {
  mode: ['fast', 'exact'],
  provider: ['auto', 'native', 'wasm'],
  cache: FORMAT_NAMES,
} as const;

export const LOAD_RANGES = {
  tile: { min: 1, max: 4096, integer: true },
  context: { min: 1, max: 10_000_000, integer: true },
} as const satisfies Record<string, NumberRange>;

export const MAX_STOPS = 16;
export const MAX_STOP_LENGTH = 1024;

export function describeRange(range: NumberRange): string {
  return `${range.integer ? 'an integer' : 'a number'} ${range.above ? 'above' : 'from'} ${range.min} ${range.above ? 'and at most' : 'to'} ${range.max}`;
}

export function inRange(value: unknown, range: NumberRange): value is number {
  return (
    typeof value === 'number' &&
    (range.integer ? Number.isInteger(value) : Number.isFinite(value)) &&
    (range.above ? value > range.min : value >= range.min) &&
    value <= range.max
  );
}

export function invalid(field: string, value: unknown, allowed: string | readonly (string | number)[]): KvasirError {
  const list = typeof allowed === 'string' ? allowed : `one of ${allowed.join(', ')}`;
  return new KvasirError('invalid_request', `${field} must be ${list}`, { field, value, allowed });
}

/** Raises `invalid_request` (`invalid_recipe` on kv) naming the first field that is wrong. */
export function checkGenerate(request: GenerateRequest, vocab: number): void {
  for (const [field, range] of Object.entries(NUMBER_RANGES)) {
    const value = request[field as keyof typeof NUMBER_RANGES];
    if (value !== undefined && !inRange(value, range)) throw invalid(field, value, describeRange(range));
  }
  const given = (['messages', 'text', 'tokens'] as const).filter(field => request[field] !== undefined);
  if (given.length !== 1)
    throw invalid(given[1] ?? 'messages', given.join(', ') || undefined, 'exactly one of messages, text, tokens');
  if (request.messages) checkMessages(request.messages);
  if (request.text !== undefined && typeof request.text !== 'string') throw invalid('text', request.text, 'a string');
  if (request.tokens) checkTokens('tokens', request.tokens, vocab);
  if (request.segments !== undefined) {
    if (request.messages)
      throw invalid('segments', request.segments, 'given with text or tokens: messages name their own');
    const { tokens, text } = request;
    checkSegments(request.segments, (tokens ?? text)!.length, tokens ? 'tokens' : 'characters');
  }
  if (request.stop !== undefined) checkStops(request.stop);
  for (const [id, bias] of Object.entries(request.logitBias ?? {})) {
    if (!inRange(Number(id), { min: 0, max: vocab - 1, integer: true }))
      throw invalid('logitBias', id, `token ids from 0 to ${vocab - 1}`);
    if (!inRange(bias, { min: -100, max: 100 })) throw invalid(`logitBias.${id}`, bias, 'a number from -100 to 100');
  }
  checkCacheOptions(request);
  if (request.session !== undefined && (request.n ?? 1) !== 1) throw invalid('n', request.n, '1 within a session');
}

export function checkLoad(options: LoadOptions): void {
  if (typeof options.name !== 'string' || options.name === '')
    throw invalid('name', options.name, 'a non-empty string');
  if (typeof options.path !== 'string' || options.path === '')
    throw invalid('path', options.path, 'a GGUF file or a model folder');
  for (const [field, allowed] of Object.entries(LOAD_CHOICES)) {
    const value = options[field as keyof typeof LOAD_CHOICES];
    if (value !== undefined && !(allowed as readonly string[]).includes(value)) throw invalid(field, value, allowed);
  }
  for (const [field, range] of Object.entries(LOAD_RANGES)) {
    const value = options[field as keyof typeof LOAD_RANGES];
    if (value !== undefined && !inRange(value, range)) throw invalid(field, value, describeRange(range));
  }
  parseRecipe(options.kv);
}

export function checkScore(request: ScoreRequest, vocab: number): void {
  for (const field of ['prompt', 'continuation'] as const) {
    const value = request[field];
    if (typeof value !== 'string') checkTokens(field, value, vocab);
  }
  if (request.top !== undefined && !inRange(request.top, NUMBER_RANGES.logprobs))
    throw invalid('top', request.top, describeRange(NUMBER_RANGES.logprobs));
  if (request.seed !== undefined && !inRange(request.seed, NUMBER_RANGES.seed))
    throw invalid('seed', request.seed, describeRange(NUMBER_RANGES.seed));
  checkCacheOptions(request);
}

function checkMessages(messages: unknown): void {
  if (!Array.isArray(messages) || messages.length === 0)
    throw invalid('messages', messages, 'a list of at least one message');
  for (const [i, message] of messages.entries()) {
    if (typeof message?.role !== 'string') throw invalid(`messages.${i}.role`, message?.role, 'a string');
    checkContent(`messages.${i}.content`, message.content);
  }
}

function checkContent(field: string, content: unknown): void {
  if (typeof content === 'string') return;
  if (!Array.isArray(content) || content.length === 0) throw invalid(field, content, 'a string or a list of parts');
  for (const [i, part] of content.entries()) {
    if (typeof part?.text !== 'string') throw invalid(`${field}.${i}.text`, part?.text, 'a string');
    if (part.segment !== undefined) checkSegmentName(`${field}.${i}.segment`, part.segment);
  }
}

function checkTokens(field: string, tokens: unknown, vocab: number): void {
  if (!Array.isArray(tokens)) throw invalid(field, tokens, 'a list of token ids');
  const bad = tokens.findIndex(id => !inRange(id, { min: 0, max: vocab - 1, integer: true }));
  if (bad >= 0) throw invalid(`${field}.${bad}`, tokens[bad], `a token id from 0 to ${vocab - 1}`);
}

function checkStops(stops: unknown): void {
  if (!Array.isArray(stops) || stops.length > MAX_STOPS)
    throw invalid('stop', stops, `a list of at most ${MAX_STOPS} strings`);
  for (const [i, stop] of stops.entries())
    if (typeof stop !== 'string' || stop === '' || stop.length > MAX_STOP_LENGTH)
      throw invalid(`stop.${i}`, stop, `a string of 1 to ${MAX_STOP_LENGTH} characters`);
}

function checkCacheOptions(request: { cache?: unknown; prefill?: unknown; kv?: unknown }): void {
  if (request.cache !== undefined && !(FORMAT_NAMES as readonly unknown[]).includes(request.cache))
    throw invalid('cache', request.cache, FORMAT_NAMES);
  if (request.prefill !== undefined && request.prefill !== 'token' && request.prefill !== 'layer')
    throw invalid('prefill', request.prefill, ['token', 'layer']);
  parseRecipe(request.kv);
}
