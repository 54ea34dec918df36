import { asks } from '../../tasks/conversation.ts';
import { hex, uuid } from '../../tasks/values.ts';
import { pack, spread, turnOf } from '../fill.ts';
import { type ScbenchTask, TURNS } from '../types.ts';
import { CODE_FRAME, type CodeFunction, functions, functionTurn, stepsFor } from './functions.ts';

interface Pair {
  readonly text: string;
  readonly key: string;
  readonly value: string;
}

/** Turns of the second kind. */
const HALF = TURNS >> 1;

/** Two tasks over one context, in turn: functions by what they do, and values of random keys between them. */
export const REPOQA_AND_KV: ScbenchTask = {
  name: 'repoqa_and_kv',
  title: 'functions by what they do, and values of random keys, in turn',
  category: 'multi',
  newTokens: { function: 1024, kv: 80 },
  able: false,
  generate(draw, tokens, tools) {
    const code = functions(draw, stepsFor(tokens));
    const random = () => (tools.phrasing === 'training' ? hex(draw, 8) : uuid(draw));
    const keys = new Set<string>();
    const pair = (): Pair => {
      const [key, value] = [random(), random()];
      if (keys.has(key)) return pair();
      keys.add(key);
      return { key, value, text: `"${key}": "${value}"` };
    };
    let made = 0;
    const make = (): CodeFunction | Pair => (made++ % 2 === 0 ? code() : pair());
    const { context, records } = pack(tools, tokens, CODE_FRAME, make);
    const [codes, pairs] = [records.filter(each => 'says' in each), records.filter(each => 'key' in each)];
    const [ofCodes, ofPairs] = [spread(draw, codes.length, TURNS - HALF), spread(draw, pairs.length, HALF)];
    if (!ofCodes || !ofPairs) return null;
    const turns = Array.from({ length: TURNS }, (_, i) => {
      if (i % 2 === 0) return functionTurn(tools, context, codes[ofCodes[i >> 1]!]!);
      const { key, value, text } = pairs[ofPairs[i >> 1]!]!;
      return turnOf(tools, context, asks(`What is the value of the key "${key}"?`, value, value, `"${key}": "`), {
        scorer: 'substring',
        evidence: [text],
        kind: 'kv',
      });
    });
    return { context, turns, candidates: turns.filter(({ kind }) => kind === 'function').flatMap(turn => turn.answer) };
  },
};
