import type { Family } from './types.ts';

/** What families do, in the order in which they are shown. */
export const FAMILIES: Readonly<Record<Family, string>> = {
  control: 'Controls',
  keep: 'Keep: which tokens stay',
  allocate: 'Allocate: how much each layer and head keeps',
  merge: 'Merge: tokens, or layers, into one another',
  lowrank: 'Low rank: fewer numbers a row',
  format: 'Format: fewer bits a number',
  retrieve: 'Retrieve: moved out, fetched by need',
  skip: 'Skip: rows that layers do not run',
  reuse: 'Reuse: rows of other prompts',
  schedule: 'Schedule: what runs when',
};

/** What else families are called, for who searches. */
export const ALSO: Readonly<Partial<Record<Family, string>>> = {
  control: 'baselines',
  keep: 'eviction, sparse, pruning',
  allocate: 'eviction, budgets',
  merge: 'compression',
  lowrank: 'compression, projection',
  format: 'quantization, compression',
  retrieve: 'offloading, sparse',
  skip: 'pruning',
};
