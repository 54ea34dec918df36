/**
 * npm run bench:cache -- [--parts decode,encoding,unused] [--rounds 8] [--pairs 30] [--contexts 4096,8192] [--length 4096]
 *   [--models smollm2,mini] [--only kivi,f32] [--threads 2] [--quick] [--markdown] [--docs]
 *
 * What the cache's settings do to speed. decode: tokens a second of full, encoded and evicted caches and of llama.cpp
 * (node-llama-cpp) with its own; encoding: what recipes add to a prefill; unused: what the full cache pays for methods.
 * --only keeps settings whose text holds one of the parts; --markdown runs nothing and prints the tables of the last runs; --docs
 * puts them into docs/benchmarks.md.
 * Each part is a record of its own, bench/results/cache-<part>.json.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type DecodeResult, decodeBlock, decodeRates } from './cache/decode.ts';
import { ALL, type EncodingResult, encodingBlock, encodingCosts, SCALAR } from './cache/encoding.ts';
import { type UnusedResult, unusedBlock, unusedCost } from './cache/unused.ts';
import { Busy } from './lib/busy.ts';
import { intoDocs } from './lib/docs.ts';
import { positive, positives } from './lib/flags.ts';
import { metadata } from './lib/metadata.ts';
import { MINI, smolLm2 } from './lib/models.ts';
import { hasResult, readResult, writeResult } from './lib/result.ts';
import { type Block, blocks } from './lib/table.ts';

const PARTS = ['decode', 'encoding', 'unused'] as const;
type Part = (typeof PARTS)[number];

interface Results {
  readonly decode?: readonly DecodeResult[];
  readonly encoding?: readonly EncodingResult[];
  readonly unused?: readonly UnusedResult[];
  readonly aims: readonly Aim[];
  /** Share of the machine's time that was work of anyone, and that the hypervisor gave away. */
  readonly machine: { readonly busy: number; readonly stolen: number };
}

interface Aim {
  readonly aim: string;
  readonly value: string;
  readonly met: boolean;
}

const { values: flags } = parseArgs({
  options: {
    parts: { type: 'string', default: 'decode,encoding,unused' },
    rounds: { type: 'string' },
    pairs: { type: 'string' },
    contexts: { type: 'string' },
    length: { type: 'string' },
    only: { type: 'string' },
    models: { type: 'string', default: 'smollm2,mini' },
    threads: { type: 'string', default: '2' },
    quick: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    docs: { type: 'boolean', default: false },
  },
});
const { quick, only } = flags;
/** A quick run is a look, not a record. */
const nameOf = (part: Part): string => `${quick ? 'cache-quick' : 'cache'}-${part}`;
const log = (text: string): boolean => process.stderr.write(`${text}\n`);

if (flags.markdown || flags.docs) {
  const recorded = PARTS.filter(part => hasResult(nameOf(part))).flatMap(part =>
    show(readResult<Results>(nameOf(part))),
  );
  const text = blocks(recorded, 'markdown');
  console.log(text);
  if (flags.docs) intoDocs('benchmarks.md', 'cache', text);
} else await main();

async function main(): Promise<void> {
  const rounds = positive('rounds', flags.rounds ?? (quick ? '1' : '8'));
  const pairs = positive('pairs', flags.pairs ?? (quick ? '2' : '30'));
  const contexts = positives('contexts', flags.contexts ?? (quick ? '512' : '4096,8192'));
  const length = positive('length', flags.length ?? (quick ? '512' : '4096'));
  const threads = positive('threads', flags.threads);
  const parts = flags.parts.split(',');
  const unknown = parts.find(part => !PARTS.includes(part as Part));
  if (unknown !== undefined) throw new Error(`--parts names "${unknown}"; allowed: ${PARTS.join(', ')}`);
  const chosenModels = flags.models.split(',');
  if (chosenModels.some(name => name !== 'smollm2' && name !== 'mini'))
    throw new Error(`--models is "${flags.models}"; allowed: smollm2, mini`);
  const wantsSmol = parts.includes('decode') || chosenModels.includes('smollm2');
  const smol = wantsSmol ? await smolLm2() : undefined;
  if (wantsSmol && !(smol && existsSync(smol)))
    throw new Error('no SmolLM2: `kvasir pull smollm2-135m` fetches it, or KVASIR_SMOLLM2 names its GGUF');
  const models = [
    ...(smol && chosenModels.includes('smollm2') ? [smol] : []),
    ...(chosenModels.includes('mini') ? [MINI] : []),
  ];

  const run = metadata(parts.includes('decode') ? { 'node-llama-cpp': peerVersion() } : {});
  const common = { threads, log, only };
  const measure: Record<Part, () => Promise<Omit<Results, 'machine'>>> = {
    async decode() {
      const decode: DecodeResult[] = [];
      for (const context of contexts) decode.push(await decodeRates({ ...common, path: smol!, context, rounds }));
      return { decode, aims: decode.flatMap(decodeAims) };
    },
    async encoding() {
      const cost = { ...common, length, rounds: Math.min(rounds, 5) };
      const encoding: EncodingResult[] = [];
      for (const path of models)
        encoding.push(await encodingCosts({ ...cost, path, recipes: path === MINI ? ALL : SCALAR }));
      return { encoding, aims: encoding.flatMap(encodingAims) };
    },
    async unused() {
      const unused: UnusedResult[] = [];
      for (const path of models) unused.push(await unusedCost({ ...common, path, pairs }));
      return { unused, aims: unused.flatMap(unusedAims) };
    },
  };
  for (const part of PARTS.filter(each => parts.includes(each))) {
    const busy = new Busy();
    const measured = await measure[part]();
    const { machine, stolen } = busy.end(0);
    const results: Results = { ...measured, machine: { busy: machine, stolen } };
    console.log(blocks(show(results), 'text'));
    console.log(`\nwritten to ${writeResult(nameOf(part), run, results)}`);
  }
}

/** Installs what llama.cpp needs, if it is not there. */
function peerVersion(): string {
  const peers = fileURLToPath(new URL('peers', import.meta.url));
  if (!existsSync(`${peers}/node_modules`))
    execFileSync('npm', ['ci', '--prefix', peers], { stdio: ['ignore', 'inherit', 'inherit'] });
  const text = readFileSync(`${peers}/node_modules/node-llama-cpp/package.json`, 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

function decodeAims({ context, rows }: DecodeResult): Aim[] {
  const row = rows.find(({ name }) => name === 'kivi(bits=2)');
  const aims: Aim[] = [];
  const add = (what: string, value: number | undefined, least: number) => {
    if (value !== undefined)
      aims.push({ aim: `2 bits after ${context}: ${what}`, value: value.toFixed(3), met: value >= least });
  };
  if (context === 8192) {
    add('at least 1.5 times the faster of our f32, f16', row?.toExact?.value, 1.5);
    add("faster than llama.cpp's best", row?.toTheirs?.value, 1);
  }
  return aims;
}

function encodingAims({ model, rows }: EncodingResult): Aim[] {
  return rows
    .filter(({ recipe, failed }) => /^kivi\(bits=\d\)$/.test(recipe) && failed === undefined)
    .map(({ recipe, inside }) => ({
      aim: `${recipe} takes at most 5 % of a prefill, ${model}`,
      value: `${(inside * 100).toFixed(2)} %`,
      met: inside <= 0.05,
    }));
}

function unusedAims({ model, counts, prefill, decode }: UnusedResult): Aim[] {
  const signals = Object.values(counts).reduce((sum, count) => sum + count);
  return [
    { aim: `unused methods compute no signal, ${model}`, value: String(signals), met: signals === 0 },
    ...Object.entries({ prefill, decode }).map(([what, { high }]) => ({
      aim: `unused methods cost less than 3 % of ${what} (upper end of the interval), ${model}`,
      value: high.toFixed(3),
      met: high < 1.03,
    })),
  ];
}

function show({ decode = [], encoding = [], unused = [], aims }: Results): Block[] {
  return [
    ...decode.map(decodeBlock),
    ...encoding.map(encodingBlock),
    ...(unused.length > 0 ? [unusedBlock(unused)] : []),
    ...(aims.length > 0 ? [aimsBlock(aims)] : []),
  ];
}

function aimsBlock(aims: readonly Aim[]): Block {
  return {
    caption: 'What was aimed at',
    head: ['', 'value', ''],
    rows: aims.map(({ aim, value, met }) => [aim, value, met ? 'met' : 'missed']),
  };
}
