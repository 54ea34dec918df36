import { KvasirError } from '../../src/errors.ts';
import { toErrorResponse } from '../../src/serve/errors.ts';
import { Refused } from './client.ts';

/** What is told of an error, the same whether the engine is behind HTTP or here; of several recipes the wrong one is named by its place. */
export function why(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { message, field } =
    error instanceof KvasirError ? told(error) : { message: error.message, field: fieldOf(error) };
  const place = /^recipes\[(\d+)\]/.exec(field ?? '')?.[1];
  return place === undefined ? message : `Recipe ${Number(place) + 1}: ${message}`;
}

function told(error: KvasirError): { message: string; field: string | null } {
  const { message, param } = toErrorResponse(error).body.error;
  return { message, field: param };
}

const fieldOf = (error: Error): string | null => (error instanceof Refused ? error.field : null);
