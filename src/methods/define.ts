import type { z } from 'zod';
import type { Method } from './types.ts';

/** A method whose name and options the types of recipes can see. */
export interface DefinedMethod<Name extends string, Options extends z.ZodType> extends Method<z.output<Options>> {
  readonly name: Name;
  readonly options: Options & z.ZodType<z.output<Options>>;
}

/**
 * Makes a method: checks it against the contract while its name and the schema of its options stay literal types, so that
 * `{ method: 'snapkv', keep: 0.25 }` is checked by TypeScript. The options are a flat zod object; each one has `.describe()`,
 * and a default or `.optional()`, so that a method's name alone is a recipe.
 */
export function defineMethod<const Name extends string, Options extends z.ZodObject>(
  method: DefinedMethod<Name, Options>,
): DefinedMethod<Name, Options> {
  return method;
}
