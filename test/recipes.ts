import { LayerPrefill } from '../src/engine/layer-prefill.ts';
import type { LoadedModel } from '../src/engine/loaded-model.ts';
import { Run } from '../src/engine/program/run.ts';
import type { Work } from '../src/engine/work.ts';

/** A sequence under a recipe, driven by hand: prompts, forced steps, forks, steps together with others. */
export class Written implements Disposable {
  readonly model: LoadedModel;
  readonly run: Run;
  readonly tokens: number[];

  constructor(model: LoadedModel, kv: string, seed = 1, of?: { run: Run; tokens: readonly number[] }) {
    this.model = model;
    this.tokens = of ? [...of.tokens] : [];
    if (of) {
      this.run = of.run;
      return;
    }
    const program = model.program(kv);
    if (!program) throw new Error(`${kv} is the full cache`);
    const sequence = model.cache.create({ owner: 'test', pages: program.pages('f32') });
    this.run = new Run(program, sequence, model.forward.recipes, seed);
  }

  get sequence() {
    return this.run.sequence;
  }

  /**
   * Logits of the last token.
   * @param between called after each unit of work of the prompt: what else runs meanwhile
   */
  async prompt(tokens: readonly number[], between?: () => Promise<unknown>): Promise<Float32Array> {
    const begin = this.tokens.length;
    this.tokens.push(...tokens);
    const prefill = new LayerPrefill(this.model.forward, this.sequence, this.tokens, begin, this.run);
    let last = new Float32Array();
    try {
      while (!(await prefill.next())) await between?.();
      await prefill.finish('last', (_work, _row, logits) => {
        last = logits.slice();
      });
    } finally {
      prefill.dispose();
    }
    return last;
  }

  fork(): Written {
    const run = this.run.fork(this.sequence.fork(), 1);
    return new Written(this.model, '', 1, { run, tokens: this.tokens });
  }

  [Symbol.dispose](): void {
    this.sequence.free();
  }
}

/** One step of several at once; logits of each. */
export async function stepTogether(works: readonly { at: Written; token: number }[]): Promise<Float32Array[]> {
  const list = works.map(({ at, token }): Work => {
    at.tokens.push(token);
    const { run, sequence } = at;
    const from = at.tokens.length - 1;
    if (!run.stepwise) sequence.prepareAppend(1);
    const hooks = run.stepwise ? { hooks: run } : {};
    return { sequence, tokens: at.tokens, from, rows: 1, position: from, logits: 'last', ...hooks };
  });
  const logits: Float32Array[] = [];
  await works[0]!.at.model.forward.step(list, (work, _row, values) => {
    logits[list.indexOf(work)] = values.slice();
  });
  for (const { at } of works) at.run.afterStep();
  return logits;
}

/** Forces tokens one by one; logits after each. */
export async function force(at: Written, tokens: readonly number[]): Promise<Float32Array[]> {
  const logits: Float32Array[] = [];
  for (const token of tokens) logits.push(...(await stepTogether([{ at, token }])));
  return logits;
}
