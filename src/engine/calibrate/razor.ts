import { probeScores, razorProfile } from '../../methods/calibrate/razor.ts';
import type { RazorProfile } from '../../methods/profiles.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { Random } from '../random.ts';
import type { QueryRow, StepHooks } from '../work.ts';

const REPETITIONS = 4;

/** How many different tokens are repeated: the whole probe has to fit the context. */
export function probePeriod(context: number): number {
  return Math.min(250, Math.floor((context - 1) / REPETITIONS));
}

/**
 * Finds the retrieval heads of a model: a start token and random tokens, repeated, are written one by one, and each head's
 * attention to earlier occurrences is added up (RazorAttention, section 3.2). No text is needed.
 */
export async function calibrateRazor(
  model: LoadedModel,
  onProgress: (done: number, total: number) => void | Promise<void> = () => {},
): Promise<RazorProfile> {
  const { shape, forward, info } = model;
  const period = probePeriod(info.context);
  const random = new Random(20240722);
  const ids = Array.from({ length: period }, () => Math.floor(random.next() * info.vocab));
  const tokens = [0, ...Array.from({ length: REPETITIONS }, () => ids).flat()];
  const zeros = () => Array.from({ length: shape.layers }, () => new Float64Array(shape.heads));
  const scores = { echo: zeros(), induction: zeros() };
  const sequence = model.cache.create({ owner: 'calibrate', pages: { formatK: 'f32', formatV: 'f32' } });
  let row = 0;
  const hooks: StepHooks = {
    beforeAttention() {},
    afterAttention(layer: number, query: QueryRow) {
      if (row <= period) return;
      const { values, offsets, entries } = forward.sensor.step(sequence, layer, query, query.position);
      for (let head = 0; head < shape.heads; head++) {
        const seen = entries[Math.floor(head / shape.group)]!;
        const { echo, induction } = probeScores(values.subarray(offsets[head], offsets[head]! + seen), row, period);
        scores.echo[layer]![head]! += echo / (tokens.length - period - 1);
        scores.induction[layer]![head]! += induction / (tokens.length - period - 1);
      }
    },
  };
  try {
    for (; row < tokens.length; row++) {
      await forward.step([{ sequence, tokens, from: row, rows: 1, position: row, logits: 'none', hooks }], () => {});
      await onProgress(row + 1, tokens.length);
    }
  } finally {
    sequence.free();
  }
  return razorProfile(scores, shape);
}
