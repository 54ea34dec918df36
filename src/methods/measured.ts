import { z } from 'zod';

/** A setting of a method, as it was measured. Bytes are shares of the full cache's at the same page format. */
const row = z.object({
  method: z.string(),
  /** The paper's setting, or the share of the full cache that it stands for. */
  at: z.union([z.literal('paper'), z.number()]),
  recipe: z.string(),
  /** Share of the prompt's tokens that a layer and KV head holds after it, averaged. */
  kept: z.number().nullable(),
  held: z.number().nullable(),
  peak: z.number().nullable(),
  /** Bytes parked outside the cache. */
  parked: z.number().nullable(),
  /** By task: share of instances with every answer right. */
  scores: z.array(z.number().nullable()),
  /** Forced decoding against the full f32 cache: share of equal likeliest tokens, mean KL in nats. */
  agreement: z.number().nullable(),
  kl: z.number().nullable(),
});

const measured = z.object({
  model: z.string(),
  fingerprint: z.string(),
  /** What makes it again. */
  command: z.string(),
  length: z.number(),
  instances: z.number(),
  windows: z.number(),
  pages: z.string(),
  /** With the full cache's scores: under SANE a task supports no claim. */
  tasks: z.array(z.object({ name: z.string(), title: z.string(), full: z.number() })),
  rows: z.array(row),
});

/**
 * What methods did on one model, to stand beside what their papers claim. Made from the results of `npm run bench:recipes` by
 * `node scripts/recipe-docs.ts`; the bundled model's lies beside it as kvasir-mini.measured.json.
 */
export type Measured = z.infer<typeof measured>;
export type MeasuredRow = z.infer<typeof row>;

/** @throws where the text is no such file */
export function parseMeasured(text: string): Measured {
  return measured.parse(JSON.parse(text));
}
