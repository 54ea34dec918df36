import { adakv } from './allocate/adakv.ts';
import { cake } from './allocate/cake.ts';
import { prefixkv } from './allocate/prefixkv.ts';
import { pyramidkv } from './allocate/pyramidkv.ts';
import { full } from './control/full.ts';
import { random } from './control/random.ts';
import { gear } from './format/gear.ts';
import { kivi } from './format/kivi.ts';
import { kvquant } from './format/kvquant.ts';
import { kvtuner } from './format/kvtuner.ts';
import { mikv } from './format/mikv.ts';
import { rotatekv } from './format/rotatekv.ts';
import { vidkv } from './format/vidkv.ts';
import { zipcache } from './format/zipcache.ts';
import { epicache } from './keep/epicache.ts';
import { guiKv } from './keep/gui-kv.ts';
import { h2o } from './keep/h2o.ts';
import { kvcrush } from './keep/kvcrush.ts';
import { mpcache } from './keep/mpcache.ts';
import { razorAttention } from './keep/razor-attention.ts';
import { snapkv } from './keep/snapkv.ts';
import { streamingLlm } from './keep/streaming-llm.ts';
import { tova } from './keep/tova.ts';
import { treekv } from './keep/treekv.ts';
import { windowkv } from './keep/windowkv.ts';
import { xkv } from './lowrank/xkv.ts';
import { ems } from './merge/ems.ts';
import { kvmerger } from './merge/kvmerger.ts';
import { minicache } from './merge/minicache.ts';
import { actqkv } from './retrieve/actqkv.ts';
import { leoam } from './retrieve/leoam.ts';
import { louiskv } from './retrieve/louiskv.ts';
import { fastkv } from './skip/fastkv.ts';
import type { Method } from './types.ts';

/**
 * The registry: recipes, help, docs, the HTTP schema and the conformance tests know the methods that stand here, in the order
 * in which they are shown. A line added here is all that a new method needs to be found.
 */
export const METHODS = [
  full,
  random,
  streamingLlm,
  h2o,
  tova,
  snapkv,
  razorAttention,
  treekv,
  pyramidkv,
  adakv,
  cake,
  windowkv,
  kvcrush,
  epicache,
  guiKv,
  mpcache,
  prefixkv,
  fastkv,
  ems,
  kvmerger,
  minicache,
  xkv,
  kivi,
  gear,
  kvquant,
  zipcache,
  mikv,
  kvtuner,
  rotatekv,
  vidkv,
  louiskv,
  leoam,
  actqkv,
] as const satisfies readonly Method[];

export type MethodName = (typeof METHODS)[number]['name'];

const BY_NAME: ReadonlyMap<string, Method> = new Map(METHODS.map(method => [method.name, method]));

/** The method of this name; undefined where there is none. */
export function findMethod(name: string): Method | undefined {
  return BY_NAME.get(name);
}
