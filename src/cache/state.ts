import type { Content } from './content.ts';

/** See CacheSequence.setState; `undefined` removes it. */
export function setState(c: Content, name: string, value: unknown): void {
  const before = c.states.get(name)?.bytes ?? 0;
  const bytes = value === undefined ? 0 : name.length * 2 + stateBytes(value);
  if (bytes > before) c.account.charge(bytes - before, 'state', name, true);
  else c.account.refund(before - bytes);
  c.stateBytes += bytes - before;
  if (value === undefined) c.states.delete(name);
  else c.states.set(name, { value, bytes });
}

/** Structured clones of all states, measured anew. */
export function copyStates(from: Content, to: Content): void {
  for (const [name, { value }] of from.states) setState(to, name, structuredClone(value));
}

/** Bytes of a structured-cloneable value: exact for typed arrays, 8 a number or reference, 2 a character of text. */
export function stateBytes(value: unknown, seen = new Set<object>()): number {
  if (typeof value === 'string') return 8 + value.length * 2;
  if (typeof value !== 'object' || value === null) return 8;
  if (seen.has(value)) return 8;
  seen.add(value);
  if (ArrayBuffer.isView(value)) return 16 + value.byteLength;
  if (value instanceof ArrayBuffer) return 16 + value.byteLength;
  let bytes = 16;
  if (Array.isArray(value)) for (const item of value) bytes += stateBytes(item, seen);
  else if (value instanceof Map)
    for (const [key, item] of value) bytes += stateBytes(key, seen) + stateBytes(item, seen);
  else if (value instanceof Set) for (const item of value) bytes += stateBytes(item, seen);
  else for (const [key, item] of Object.entries(value)) bytes += key.length * 2 + stateBytes(item, seen);
  return bytes;
}
