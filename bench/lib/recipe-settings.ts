import { METHODS } from '../../src/methods/index.ts';
import type { Method } from '../../src/methods/types.ts';

/** Shares of the full cache that methods are compared at. */
export const BUDGETS = [0.1, 0.2, 0.4] as const;
export type Budget = (typeof BUDGETS)[number];

export interface Setting {
  readonly method: string;
  /** The paper's setting, or the budget that it stands for. */
  readonly at: 'paper' | Budget;
  readonly recipe: string;
}

export interface Circumstances {
  /** Tokens of a prompt. */
  readonly length: number;
  /** Share of the KV heads that the model's profile finds to retrieve. */
  readonly retrieving: number;
}

interface Settings {
  /** Default: the method's defaults, which are its paper's. */
  readonly paper?: string;
  /** The method's own knobs for about a budget's bytes; null where it cannot hold so little. */
  readonly at: (budget: Budget, circumstances: Circumstances) => string | null;
}

/** Widths of codes that stand for the budgets: with their scales about as many bytes, of a cache in f16. */
const BITS = { 0.1: 2, 0.2: 3, 0.4: 4 } as const;
const bits: Settings = { at: budget => `bits=${BITS[budget]}` };
const whole = (value: number) => Math.max(1, Math.round(value));

/** Methods that have no option `keep`, or whose `keep` alone cannot reach the budgets. */
const OWN: Readonly<Record<string, Settings>> = {
  kivi: bits,
  gear: bits,
  kvquant: bits,
  rotatekv: bits,
  kvtuner: { at: budget => `pairs=${{ 0.1: 'k2v2', 0.2: 'k4v2', 0.4: 'k8v4' }[budget]}` },
  // The most it can hold is 2 bits and their parameters.
  vidkv: { at: budget => ({ 0.1: 'bitsK=1.25, group=64', 0.2: 'bitsK=2, bitsV=2', 0.4: null })[budget] },
  // One token a digit: the budgets pool over 15 tokens, so that a number of seven digits stays whole (docs/eval.md).
  snapkv: { at: budget => `keep=${budget}, width=15` },
  pyramidkv: { at: budget => `keep=${budget}, width=15` },
  adakv: { at: budget => `keep=${budget}, width=15` },
  cake: { at: budget => `keep=${budget}, width=15` },
  // A control has no paper.
  random: { paper: 'keep=0.25', at: budget => `keep=${budget}` },
  // Heads that retrieve keep all: the rest of the budget is for the windows of the others.
  'razor-attention': {
    at: (budget, { retrieving }) =>
      budget > retrieving ? `minimum=16, divisor=${((1 - retrieving) / (budget - retrieving)).toFixed(2)}` : null,
  },
  // The heads of the bundled model that look things up lie in layers 6 to 9: rows chosen halfway, at the default, lose what is asked.
  fastkv: { at: budget => `keep=${budget}, layer=7, width=15` },
  // What is never merged, and layers that are left alone, must fit into the budget.
  kvmerger: {
    at: budget =>
      `keep=${budget}, recent=${(budget * 0.3).toFixed(2)}, heavy=${(budget * 0.3).toFixed(2)}, skipFirst=0, skipLast=0`,
  },
  // All layers in pairs, directions in fewer bits: half, a quarter and an eighth of f16, beside the tokens kept apart.
  minicache: { at: budget => `start=0, retain=share, bits=${{ 0.1: 4, 0.2: 8, 0.4: 16 }[budget]}` },
  // Rows take rank / width of the bytes, bases width / length more of that; a group of four layers has 4 x 256 columns here.
  xkv: {
    at(budget, { length }) {
      const rank = budget / (1 + 1024 / length);
      return `ratioK=${(rank * 0.8).toFixed(3)}, ratioV=${(rank * 1.2).toFixed(3)}`;
    },
  },
  // Sinks and recent tokens stay; what is fetched is the rest of the budget.
  louiskv: { at: (budget, { length }) => `budget=${whole(budget * length - 68)}` },
  leoam: {
    at: (budget, { length }) =>
      `share=${budget}, earlyShare=${budget}, most=${whole(budget * length - 68)}, memory=0, resident=0`,
  },
  actqkv: {
    at(budget, { length }) {
      const blocks = whole((budget * length - 80) / 16);
      return `block=16, sinks=16, local=64, blocks=${blocks}, least=${blocks >> 1}, most=${2 * blocks}, resident=0`;
    },
  },
  // Salient tokens in 4 bits and the others in 2: 2.4 to 4 bits a code, with their scales.
  zipcache: { at: budget => `regular=${{ 0.1: 0.9, 0.2: 0.5, 0.4: 0 }[budget]}` },
  // Bytes of f16: 24 %, 28 % and 46 % at 2,048 tokens. Important tokens are of 4 bits, or f16 at the last; the others of 2.
  mikv: {
    at: budget => ({ 0.1: 'bitsImportant=4', 0.2: 'important=0.5, bitsImportant=4', 0.4: 'important=0.3' })[budget],
  },
  // Blocks of a quarter of the prompt, so that it acts block by block.
  epicache: { at: (budget, { length }) => `keep=${budget}, block=${whole(length / 4)}` },
};

/** Every registered method but `full`, at its paper's setting and at the budgets that it can reach. */
export function recipeSettings(circumstances: Circumstances): Setting[] {
  return METHODS.filter(({ name }) => name !== 'full').flatMap((method: Method): Setting[] => {
    const { name } = method;
    const own = OWN[name] ?? (hasKeep(method) ? { at: (budget: Budget) => `keep=${budget}` } : undefined);
    if (!own)
      throw new Error(`${name} has no option keep: say in bench/lib/recipe-settings.ts what stands for a budget`);
    const paper: Setting = { method: name, at: 'paper', recipe: own.paper ? `${name}(${own.paper})` : name };
    const others = BUDGETS.flatMap((at): Setting[] => {
      const options = own.at(at, circumstances);
      return options === null ? [] : [{ method: name, at, recipe: `${name}(${options})` }];
    });
    return [paper, ...others];
  });
}

const hasKeep = ({ options }: Method): boolean => 'keep' in ((options as { shape?: object }).shape ?? {});
