import { METHODS } from '../../src/methods/index.ts';
import type { Method } from '../../src/methods/types.ts';

/** The recipes of the conformance matrix: for each method its defaults, but what is said here. */

/** Settings that make a method act on prompts of 250 tokens and on models of two layers. */
const SMALL: Readonly<Record<string, string>> = {
  'streaming-llm': 'budget=96',
  h2o: 'keep=0.4',
  tova: 'budget=96',
  'razor-attention': 'minimum=64',
  treekv: 'budget=96',
  cake: 'budget=96',
  prefixkv: 'keep=0.4, search=prompt',
  epicache: 'keep=0.4, block=128, segment=32',
  fastkv: 'keep=0.4, layer=0',
  kivi: 'residual=64',
  rotatekv: 'group=32',
  vidkv: 'buffer=64, protect=0.25',
  zipcache: 'buffer=64',
  minicache: 'start=0',
  ems: 'keep=0.4, theta=0.1',
  kvmerger: 'epsilon=0.3, skipFirst=0, skipLast=0',
  xkv: 'group=2, ratioK=0.5, ratioV=0.5, always=true',
  louiskv: 'budget=64, recent=32, place=file',
  leoam: 'most=64, recent=32, resident=96',
  actqkv: 'block=16, blocks=3, least=2, most=5, sinks=16, local=64, window=128, warmup=1, history=4, resident=96',
  mpcache: 'keep=0.6, size=8',
};

/** Settings that run what the ones above leave out. */
const BESIDE: Readonly<Record<string, string>> = {
  kvcrush: 'keep=0.4, form=blocks, block=16',
  prefixkv: 'keep=0.4, window=16',
  mikv: 'bitsImportant=4',
  kvtuner: 'pairs=k4v3, base=page',
};

/** Settings under which a prefix of the cache may be reused, where the ones above say otherwise. */
const STABLE: Readonly<Record<string, string>> = {
  rotatekv: 'group=32, peaks=0',
  vidkv: 'bitsK=2, buffer=64',
};

interface Neutral {
  readonly options: string;
  /** Greatest difference of logits; default 0.02. */
  readonly within?: number;
  /** Why nothing is dropped, encoded or joined, where that is so. */
  readonly idle?: string;
}

const CODES = 'codes have at most 8 bits, so what is stored in them never equals the full cache: nothing is old enough';

/**
 * What makes a method the full cache: everything kept, full rank, 16 bits, everything fetched. Where a method has such a setting
 * it does its work; `idle` says why it does not. Those with 8 bits and a wider bound store nearly all of the prompt in codes.
 */
const NEUTRAL: Readonly<Record<string, readonly Neutral[]>> = {
  'razor-attention': [
    { options: 'divisor=1, minimum=4096', idle: 'a mean entry is never what it stands for: all lies in the window' },
  ],
  mpcache: [{ options: 'keep=1, coarse=1, fine=1' }, { options: 'budget=4096, coarse=0.999, fine=0.999' }],
  fastkv: [{ options: 'keep=1' }, { options: 'budget=4096, rate=1, layer=0' }],
  kvmerger: [{ options: 'epsilon=1, skipFirst=0, skipLast=0' }],
  minicache: [
    {
      options: 'start=0, retain=share, gamma=1',
      idle: 'a direction shared by two layers is neither’s own: all stay apart',
    },
  ],
  xkv: [{ options: 'group=2, ratioK=1, ratioV=1, always=true' }],
  kivi: [
    { options: 'residual=1024', idle: CODES },
    { options: 'bits=8, residual=64', within: 0.2 },
  ],
  gear: [
    { options: 'buffer=1024', idle: CODES },
    { options: 'bits=8', within: 0.2 },
  ],
  kvquant: [{ options: 'sinks=1024', idle: 'codes have at most 4 bits: all are sinks' }],
  kvtuner: [
    { options: 'pairs=k16v16', idle: '16 bits are rows as they came' },
    { options: 'pairs=k8v8', within: 0.2 },
    { options: 'pairs=k16v8', within: 0.2 },
  ],
  rotatekv: [{ options: 'buffer=1024', idle: 'codes have at most 4 bits: nothing is old enough' }],
  vidkv: [{ options: 'buffer=1024', idle: 'codes have at most 2 bits: nothing is old enough' }],
  zipcache: [
    { options: 'buffer=1024', idle: CODES },
    { options: 'bitsRegular=8, bitsSalient=8, buffer=64', within: 0.2 },
  ],
  mikv: [
    { options: 'important=1', idle: 'retained tokens have at most 4 bits: all are important' },
    { options: 'important=1, bitsImportant=8', within: 0.2 },
  ],
  louiskv: [{ options: 'budget=4096, tau=1' }],
  leoam: [{ options: 'share=1, earlyShare=1, most=4096' }],
  actqkv: [{ options: 'blocks=4096, most=4096, sinks=16, local=64, window=128' }],
};

export const methods: readonly Method[] = METHODS.filter(method => method.name !== 'full');

const has = (method: Method, option: string) => option in ((method.options as { shape?: object }).shape ?? {});
const written = ({ name }: Method, options: string) => (options === '' ? name : `${name}(${options})`);

const smallOf = (method: Method): string => SMALL[method.name] ?? (has(method, 'keep') ? 'keep=0.4' : '');

/** @param layers of the model: KVTuner has other widths in the first ones; large groups of xKV take a minute for their eigenvectors */
export function recipeOf(method: Method, layers: number): string {
  if (method.name === 'xkv' && layers > 2) return 'xkv(group=1, ratioK=0.5, ratioV=0.5, always=true)';
  if (method.name === 'kvtuner') return `kvtuner(pairs="k8v4 k16v3${layers > 2 ? ` k4v2*${layers - 2}` : ''}")`;
  return written(method, smallOf(method));
}

/** All settings in which a method stands in the matrix. */
export const recipesOf = (method: Method, layers: number): string[] => {
  const beside = BESIDE[method.name];
  return [recipeOf(method, layers), ...(beside === undefined ? [] : [written(method, beside)])];
};

/** Under which a prefix may be reused; '' where there is none. */
export function stableRecipeOf(method: Method): string {
  const stable = STABLE[method.name];
  if (stable !== undefined) return written(method, stable);
  return method.traits.prefixStable ? written(method, smallOf(method)) : '';
}

/** Methods that may drop while a prompt is read, and how: after each chunk of so many tokens. */
export const choppers = methods.filter(method => has(method, 'evict'));
export const chunkedOf = (method: Method, chunk: number) =>
  written(method, `${smallOf(method)}, evict=chunk, chunk=${chunk}`);

/** `keep=1` does nothing at all; a budget above the text's length asks and scores, and finds nothing to drop. */
export const neutrals = methods.flatMap(method =>
  (NEUTRAL[method.name] ?? [{ options: 'keep=1' }, { options: 'budget=4096' }]).map(
    ({ options, within = 0.02, idle }) => ({ kv: written(method, options), within, idle }),
  ),
);
