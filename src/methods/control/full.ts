import { z } from 'zod';
import { defineMethod } from '../define.ts';

/** The full cache: a policy without any member. Everything else is measured against it. */
export const full = defineMethod({
  name: 'full',
  title: 'Full cache',
  family: 'control',
  summary:
    'Keeps every token exactly as the model wrote it. Use it where memory suffices, and as the measure of all others.',
  paper: null,
  claim: '',
  options: z.object({}),
  traits: { stage: 'keep', prefixStable: true },
  create: () => ({}),
});
