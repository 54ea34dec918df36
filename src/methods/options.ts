import { z } from 'zod';
import type { Method } from './types.ts';

/** One option of a method, as help, docs and refusals tell it. */
export interface OptionInfo {
  readonly name: string;
  readonly type: 'number' | 'integer' | 'boolean' | 'string' | 'list';
  /** Absent: the option may be left out, and then nothing is set. */
  readonly default?: unknown;
  /** What is accepted, in words. */
  readonly allowed: string;
  /** Where the option is a choice. */
  readonly values?: readonly (string | number | boolean)[];
  readonly minimum?: number;
  readonly maximum?: number;
  /** The least or the greatest value itself is not allowed. */
  readonly exclusive?: 'minimum' | 'maximum' | 'both';
  readonly description: string;
}

/** The part of JSON Schema that options use. */
interface Schema {
  readonly type?: string;
  readonly const?: string | number | boolean;
  readonly enum?: readonly (string | number | boolean)[];
  readonly anyOf?: readonly Schema[];
  readonly items?: Schema;
  readonly default?: unknown;
  readonly description?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly multipleOf?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
}

const known = new WeakMap<Method, readonly OptionInfo[]>();

/** The options of a method, from the schema that checks them. */
export function optionsOf(method: Method): readonly OptionInfo[] {
  let infos = known.get(method);
  if (!infos) {
    const schema = z.toJSONSchema(method.options, { io: 'input', unrepresentable: 'any' }) as Schema;
    infos = Object.entries(schema.properties ?? {}).map(([name, option]) => optionInfo(name, option));
    known.set(method, infos);
  }
  return infos;
}

function optionInfo(name: string, schema: Schema): OptionInfo {
  const values = choices(schema);
  const bounds = boundsOf(schema);
  return {
    name,
    type: typeOf(schema, values),
    ...(schema.default !== undefined && { default: schema.default }),
    allowed: allowedOf(schema),
    ...(values && { values }),
    ...bounds,
    description: schema.description ?? '',
  };
}

function typeOf(schema: Schema, values: OptionInfo['values']): OptionInfo['type'] {
  const [first] = values ?? [];
  const type = schema.type ?? (first === undefined ? typeOfUnion(schema) : typeof first);
  return type === 'array' ? 'list' : (type as OptionInfo['type']);
}

function typeOfUnion(schema: Schema): string {
  return schema.anyOf?.[0]?.type ?? 'string';
}

function choices(schema: Schema): readonly (string | number | boolean)[] | undefined {
  if (schema.enum) return schema.enum;
  if (schema.const !== undefined) return [schema.const];
  const each = schema.anyOf?.map(choices);
  return each?.every(values => values !== undefined) ? each.flat() : undefined;
}

/** Integers of JavaScript are bounded anyway: such a bound is none. */
function boundsOf(schema: Schema): Pick<OptionInfo, 'minimum' | 'maximum' | 'exclusive'> {
  const low = schema.exclusiveMinimum ?? schema.minimum ?? -Infinity;
  const high = schema.exclusiveMaximum ?? schema.maximum ?? Infinity;
  const below = schema.exclusiveMinimum !== undefined;
  const above = schema.exclusiveMaximum !== undefined;
  return {
    ...(low > Number.MIN_SAFE_INTEGER && { minimum: low }),
    ...(high < Number.MAX_SAFE_INTEGER && { maximum: high }),
    ...((below || above) && { exclusive: below && above ? 'both' : below ? 'minimum' : 'maximum' }),
  };
}

/** In words: `a number above 0 and at most 1`. */
function allowedOf(schema: Schema): string {
  const values = choices(schema);
  if (values) return values.join(', ').replace(/, ([^,]*)$/, ' or $1');
  if (schema.anyOf) return schema.anyOf.map(allowedOf).join(', or ');
  if (schema.type === 'boolean') return 'true or false';
  if (schema.type === 'string') return 'text';
  if (schema.type === 'array') return `a list, each ${schema.items ? allowedOf(schema.items) : 'a value'}`;
  const { minimum, maximum, exclusive } = boundsOf(schema);
  const low = exclusive === 'minimum' || exclusive === 'both' ? 'above' : 'from';
  const high = exclusive === 'maximum' || exclusive === 'both' ? 'below' : low === 'from' ? 'to' : 'at most';
  const parts = [
    ...(minimum === undefined ? [] : [`${maximum === undefined && low === 'from' ? 'at least' : low} ${minimum}`]),
    ...(maximum === undefined ? [] : [`${minimum === undefined && high === 'to' ? 'at most' : high} ${maximum}`]),
  ];
  const whole = schema.type === 'integer';
  const noun =
    schema.multipleOf === undefined ? (whole ? 'a whole number' : 'a number') : `a multiple of ${schema.multipleOf}`;
  return [noun, parts.join(high === 'to' ? ' ' : ' and ')].filter(Boolean).join(' ');
}
