import { basename } from 'node:path';
import { METHODS } from '../../src/methods/index.ts';
import { alternate } from '../lib/alternate.ts';
import { Child } from '../lib/child.ts';
import { chosen } from '../lib/flags.ts';
import { median, pairRatio, type Ratio } from '../lib/stats.ts';
import { type Block, digits } from '../lib/table.ts';
import { interval } from './decode.ts';

/** Scalar encoding, for which there is an aim, and an eviction. */
export const SCALAR = [
  'kivi(bits=2)',
  'kivi(bits=4)',
  'kivi(bits=8)',
  'snapkv(keep=0.25)',
  'snapkv(keep=0.25) + kivi(bits=2)',
];

/** Each round begins that many tokens further on in the text. */
const OFFSET = 64;

/** SCALAR, and every method of the registry at its defaults. */
export const ALL = [...SCALAR, ...METHODS.map(({ name }) => name).filter(name => name !== 'full' && name !== 'kivi')];

export interface EncodingResult {
  readonly model: string;
  readonly length: number;
  readonly rounds: number;
  readonly rows: readonly EncodingRow[];
}

export interface EncodingRow {
  readonly recipe: string;
  readonly failed?: string;
  /** Time of decisions and actions over that of the rest of the same prefill: median of the rounds, and each. */
  readonly inside: number;
  readonly insides: readonly number[];
  /** The whole prefill with the recipe over the one without, both layer by layer. */
  readonly whole?: Ratio;
}

interface Sample {
  readonly prefill: number;
  readonly decisions: number;
}

/** What recipes add to a prefill: one process, prompts from empty caches in alternation. */
export async function encodingCosts(options: {
  readonly path: string;
  readonly length: number;
  readonly rounds: number;
  readonly threads: number;
  readonly recipes: readonly string[];
  readonly only: string | undefined;
  readonly log: (text: string) => void;
}): Promise<EncodingResult> {
  const { path, length, rounds, threads, log } = options;
  await using child = new Child('peers/cache.ts');
  await child.call('load', { path, threads });
  const { tokens } = await child.call<{ tokens: number[] }>('text', { count: length + OFFSET * (rounds + 1) });
  const recipes = chosen(options.recipes, recipe => recipe, options.only);
  for (const { name, profile } of METHODS as readonly { name: string; profile?: string }[]) {
    if (!profile || !recipes.some(recipe => recipe.includes(name))) continue;
    const made = await child.call('makeProfile', { kind: profile });
    await child.call('setProfile', { kind: profile, profile: made });
  }
  const failures = new Map<string, string>();
  const run = async (cache: string, round: number, rows = length): Promise<Sample> => {
    if (failures.has(cache)) return { prefill: Number.NaN, decisions: Number.NaN };
    try {
      return await child.call<Sample>('layerPrefill', {
        cache,
        tokens: tokens.slice(round * OFFSET, round * OFFSET + rows),
      });
    } catch (error) {
      failures.set(cache, (error instanceof Error ? error.message : String(error)).split('\n')[0]);
      return { prefill: Number.NaN, decisions: Number.NaN };
    }
  };
  // The first prompts compile code and page memory in.
  await run('f32', 0);
  for (const recipe of recipes) for (let i = 0; i < 3; i++) await run(recipe, 0, Math.min(length, 512));
  const samples = await alternate(
    ['f32', ...recipes].map(name => ({ name, run: round => run(name, round + 1) })),
    rounds,
    (name, round) => log(`encoding, ${basename(path)}: round ${round + 1} of ${rounds}, ${name}`),
  );
  const without = samples.get('f32')!.map(({ prefill }) => prefill);
  const rows = recipes.map((recipe): EncodingRow => {
    const failed = failures.get(recipe);
    if (failed !== undefined) return { recipe, failed, inside: Number.NaN, insides: [] };
    const own = samples.get(recipe)!;
    const insides = own.map(({ prefill, decisions }) => decisions / (prefill - decisions));
    const whole = pairRatio(
      own.map(({ prefill }) => prefill),
      without,
    );
    return { recipe, inside: median(insides), insides, whole };
  });
  return { model: basename(path), length, rounds, rows };
}

export function encodingBlock({ model, length, rounds, rows }: EncodingResult): Block {
  return {
    caption: `What a recipe adds to a prefill of ${length} tokens, ${model}, ${rounds} rounds`,
    head: ['', 'decisions and actions, % of the rest', 'prefill with / without'],
    rows: rows.map(({ recipe, failed, inside, whole }) =>
      failed !== undefined ? [recipe, 'failed', failed.slice(0, 80)] : [recipe, digits(inside * 100), interval(whole)],
    ),
  };
}
