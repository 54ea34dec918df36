import type { LoadedModel } from '../../engine/loaded-model.ts';
import { argmax } from '../../engine/sampler.ts';
import type { CacheSetting } from '../cache-setting.ts';
import type { EncodedTurn } from '../encode.ts';
import { Feed, type Pause } from '../feed.ts';
import type { Sample } from '../tools.ts';
import { judge } from './judge.ts';

export interface Outcome {
  /** One a turn. */
  readonly right: readonly boolean[];
  /** Cache bytes when the last answer had been read, and the most held on the way. */
  readonly held: number;
  readonly peak: number;
}

/** Tokens beyond the expected answer that a free answer may take. */
const SLACK = { ends: 8, free: 48 };

/**
 * Forced: an answer is right where each of its tokens is the arg max given those before it; exactly then greedy decoding
 * writes it. One pass over the prompt and the right answers.
 */
export async function forced(
  model: LoadedModel,
  setting: CacheSetting,
  sample: Sample,
  pause?: Pause,
): Promise<Outcome> {
  using feed = new Feed(model, setting, pause);
  const right: boolean[] = [];
  await eachTurn(feed, sample, async (turn, first) => {
    let same = first === turn.answer[0];
    const begin = feed.length;
    await feed.push(turn.answer.slice(0, -1), 'all', (position, logits) => {
      same &&= argmax(logits) === turn.answer[position - begin + 1];
    });
    right.push(same);
    return turn.answer.slice(-1);
  });
  return { right, ...use(feed) };
}

/** Greedy decoding; the text that comes out is judged. Later turns see the right answers, whatever was written. */
export async function greedy(
  model: LoadedModel,
  setting: CacheSetting,
  sample: Sample,
  pause?: Pause,
): Promise<Outcome> {
  const { tokenizer } = model;
  const { turns, ends } = sample.instance;
  using feed = new Feed(model, setting, pause);
  const right: boolean[] = [];
  await eachTurn(feed, sample, async (turn, first) => {
    using writer = feed.fork();
    const written: number[] = [];
    const most = Math.min(turn.answer.length + (ends ? SLACK.ends : SLACK.free), model.info.context - feed.length);
    for (let next = first; written.length < most && !tokenizer.endTokens.has(next); ) {
      written.push(next);
      await writer.push([next], 'last', (_, logits) => {
        next = argmax(logits);
      });
    }
    right.push(judge(turns[right.length]!, tokenizer.decode(written), ends));
    return turn.answer;
  });
  return { right, ...use(feed) };
}

/**
 * Feeds the turns' prompts and hands out each with the likeliest first token of its answer.
 * @param answer returns the tokens of the answer that have not been fed yet: they go before the next prompt
 */
async function eachTurn(
  feed: Feed,
  sample: Sample,
  answer: (turn: EncodedTurn, first: number) => Promise<readonly number[]>,
): Promise<void> {
  let pending: readonly number[] = [];
  for (const turn of sample.encoded.turns) {
    let first = -1;
    await feed.prompt([...pending, ...turn.prompt], 'last', (_, logits) => {
      first = argmax(logits);
    });
    pending = await answer(turn, first);
  }
}

function use(feed: Feed): { held: number; peak: number } {
  const { held, peak } = feed.stats();
  return { held, peak };
}
