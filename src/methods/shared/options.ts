import { z } from 'zod';
import { PAGE_TOKENS } from '../../../kernels/abi.ts';

/** How much a method keeps: exactly one of the two is set. */
export interface BudgetOptions {
  /** Share of the tokens seen that is kept, (0, 1]. */
  readonly keep?: number | undefined;
  /** Tokens kept a head and layer. */
  readonly budget?: number | undefined;
}

type Standard = { readonly keep: number } | { readonly budget: number };

/**
 * A schema with `keep` and `budget` in front of a method's own options. Where neither is given, `standard` holds.
 */
export function withBudget<Shape extends z.ZodRawShape>(standard: Standard, shape: Shape) {
  const stands = (name: string) => ({ ...(name in standard && { default: standard[name as keyof typeof standard] }) });
  const base = {
    keep: z
      .number()
      .gt(0)
      .max(1)
      .optional()
      .meta({
        description: 'Share of the tokens seen that is kept, never less than what always stays; 1 keeps all',
        ...stands('keep'),
      }),
    budget: z
      .int()
      .min(1)
      .optional()
      .meta({
        description:
          'Tokens kept a head, window and sinks included, never less than those, whatever the length; instead of keep',
        ...stands('budget'),
      }),
  };
  return z
    .object({ ...base, ...shape })
    .refine(given => !(has(given, 'keep') && has(given, 'budget')), {
      error: 'give keep or budget, not both',
      path: ['budget'],
    })
    .overwrite(given => (has(given, 'keep') || has(given, 'budget') ? given : { ...given, ...standard }));
}

const has = (given: object, name: keyof BudgetOptions): boolean => (given as BudgetOptions)[name] !== undefined;

/** Last tokens whose queries score the others; they always stay. */
export const window = (standard: number) =>
  z
    .int()
    .min(1)
    .max(1024)
    .default(standard)
    .describe('Last tokens: their queries score the others, and they always stay');

/** Pooling of scores along tokens. */
export const pooling = (kind: 'mean' | 'max', width: number) => ({
  pool: z.enum(['mean', 'max']).default(kind).describe('How neighbouring scores are pooled'),
  width: z
    .int()
    .min(1)
    .max(63)
    .refine(value => value % 2 === 1, { error: 'width must be odd: tokens on both sides and the one between' })
    .default(width)
    .describe('Tokens pooled together, an odd number; 1 pools nothing'),
});

/** How the scores of the query heads that share a KV head become one. */
export const group = (standard: 'mean' | 'sum' | 'max') =>
  z.enum(['mean', 'sum', 'max']).default(standard).describe('How query heads that share a KV head are taken together');

/** When tokens are dropped while a prompt is read. */
export const eviction = {
  evict: z
    .enum(['prompt', 'chunk'])
    .default('prompt')
    .describe('prompt: with the whole prompt seen; chunk: after each chunk of it, a smaller peak and other results'),
  chunk: z.int().min(64).default(512).describe('Tokens a chunk, where evict is chunk'),
};

/** The policy's member for `eviction`. */
export function chunked({ evict, chunk }: { readonly evict: 'prompt' | 'chunk'; readonly chunk: number }) {
  return evict === 'chunk' ? { chunk } : {};
}

/** Whether entries keep their true positions. */
export const positions = (standard: 'kept' | 'renumbered') =>
  z
    .enum(['kept', 'renumbered'])
    .default(standard)
    .describe('renumbered: tokens count by their place in the cache, so that text may outgrow the trained context');

/** Tokens in whole pages. */
export const wholePages = (standard: number, description: string) =>
  z.int().min(PAGE_TOKENS).multipleOf(PAGE_TOKENS).default(standard).describe(description);

/** New entries that are encoded together. */
export const buffer = (standard: number) => wholePages(standard, 'New entries are encoded in blocks of so many');
