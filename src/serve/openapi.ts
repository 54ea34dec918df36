import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import { CompareEvent, CompareRequest } from './compare.ts';
import * as schemas from './schemas.ts';

export const OPENAPI_INFO = {
  openapi: '3.1.0',
  info: {
    title: 'Kvasir',
    version: '0.1.0',
    description:
      "OpenAI's API, with Kvasir's extensions under names of their own. Unknown and unsupported fields are refused by name; null counts as absent.",
  },
};

const json = (schema: z.ZodType, description: string) => ({ description, content: { 'application/json': { schema } } });
const events = (schema: z.ZodType) => ({ 'text/event-stream': { schema } });
const body = (schema: z.ZodType) => ({ body: { required: true, content: { 'application/json': { schema } } } });
const failures = {
  400: json(
    schemas.ErrorResponseBody,
    'A field is wrong, unknown or not supported, or the prompt exceeds the context.',
  ),
  401: json(schemas.ErrorResponseBody, 'The API key is missing or wrong.'),
  403: json(schemas.ErrorResponseBody, 'Host or Origin is not this machine.'),
  404: json(schemas.ErrorResponseBody, 'No such model.'),
  413: json(schemas.ErrorResponseBody, 'The body is too large.'),
  429: json(schemas.ErrorResponseBody, 'The queue is full.'),
  503: json(schemas.ErrorResponseBody, 'No memory for this request now, or the server is shutting down.'),
};

const DOCUMENTED = [
  createRoute({
    method: 'post',
    path: '/v1/chat/completions',
    summary: 'Answer a chat',
    request: body(schemas.ChatRequest),
    responses: {
      ...failures,
      200: {
        description: 'The answer; with `stream`, chunks and then [DONE].',
        content: { 'application/json': { schema: schemas.ChatCompletion }, ...events(schemas.ChatChunk) },
      },
    },
  }),
  createRoute({
    method: 'post',
    path: '/v1/completions',
    summary: 'Continue a text',
    request: body(schemas.CompletionRequest),
    responses: {
      ...failures,
      200: {
        description: 'The continuation; with `stream`, chunks and then [DONE].',
        content: { 'application/json': { schema: schemas.TextCompletion }, ...events(schemas.TextCompletion) },
      },
    },
  }),
  createRoute({
    method: 'get',
    path: '/v1/models',
    summary: 'Models that can be asked for, loaded or not',
    responses: { 200: json(schemas.ModelList, 'The models.') },
  }),
  createRoute({
    method: 'get',
    path: '/v1/models/{id}',
    summary: 'One model',
    request: { params: z.object({ id: z.string() }) },
    responses: { 200: json(schemas.Model, 'The model.'), 404: failures[404] },
  }),
  createRoute({
    method: 'get',
    path: '/v1/kvasir/methods',
    summary: 'Methods that a recipe (`kv`) is made of',
    responses: { 200: json(schemas.MethodList, 'The methods, with their options and what they go together with.') },
  }),
  createRoute({
    method: 'post',
    path: '/v1/kvasir/compare',
    summary: 'One prompt under several recipes, beside the full cache',
    request: body(CompareRequest),
    responses: {
      ...failures,
      200: { description: 'Progress and a row a recipe, then [DONE].', content: events(CompareEvent) },
    },
  }),
  createRoute({
    method: 'post',
    path: '/tokenize',
    summary: 'Token ids of a text or of a rendered chat',
    request: body(schemas.TokenizeRequest),
    responses: { ...failures, 200: json(schemas.TokenizeResponse, 'The ids.') },
  }),
  createRoute({
    method: 'post',
    path: '/detokenize',
    summary: 'Text of token ids',
    request: body(schemas.DetokenizeRequest),
    responses: { ...failures, 200: json(schemas.DetokenizeResponse, 'The text.') },
  }),
  createRoute({
    method: 'post',
    path: '/load',
    summary: 'Load a model, with progress as events',
    request: body(schemas.LoadRequest),
    responses: {
      ...failures,
      200: { description: 'Progress; the last event has the model.', content: events(schemas.LoadEvent) },
    },
  }),
  createRoute({
    method: 'get',
    path: '/health',
    summary: 'Whether the server takes requests',
    responses: { 200: json(schemas.Health, 'It does.'), 503: json(schemas.Health, 'It is shutting down.') },
  }),
  createRoute({
    method: 'get',
    path: '/stats',
    summary: 'What runs and what memory it holds',
    responses: { 200: json(schemas.Stats, 'The figures.') },
  }),
];

/** Puts every route into the document that /openapi.json gives. */
export function documentRoutes(app: OpenAPIHono): void {
  app.openAPIRegistry.registerComponent('securitySchemes', 'key', { type: 'http', scheme: 'bearer' });
  for (const [name, schema] of Object.entries(schemas.COMPONENTS)) {
    app.openAPIRegistry.registerComponent('schemas', name, schema as object);
  }
  for (const route of DOCUMENTED) app.openAPIRegistry.registerPath(route);
}
