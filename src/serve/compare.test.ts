import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { passkey } from '../../web/src/prompts.ts';
import { type EndToEnd, MISSING_MODEL, startEndToEnd, until } from './e2e.testing.ts';

const model = 'kvasir-mini';

describe.skipIf(MISSING_MODEL !== '')(`POST /v1/kvasir/compare with the bundled model${MISSING_MODEL}`, () => {
  let real: EndToEnd;
  beforeAll(async () => {
    real = await startEndToEnd();
  }, 60_000);
  afterAll(() => real?.[Symbol.asyncDispose]());

  const send = (body: object, signal?: AbortSignal) =>
    fetch(`${real.server.url}/v1/kvasir/compare`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model, messages: [{ role: 'user', content: 'What is 12 + 30?' }], ...body }),
      ...(signal && { signal }),
    });

  async function events(response: Response): Promise<Record<string, unknown>[]> {
    const lines = (await response.text()).split('\n').filter(line => line.startsWith('data: {'));
    return lines.map(line => JSON.parse(line.slice('data: '.length)));
  }

  test('a row a recipe, the full cache first; what keeps all agrees with it', async () => {
    const messages = [{ role: 'user', content: passkey(800, () => 0.4).text }];
    const response = await send({ messages, recipes: ['random(keep=0.05)', 'snapkv(keep=1)'], max_tokens: 16 });
    const all = await events(response);
    expect(all[0]).toMatchObject({ type: 'begin', recipes: ['full', 'random(keep=0.05)', 'snapkv(keep=1)'] });
    const steps = all.filter(({ type }) => type === 'step').map(({ done }) => done as number);
    expect(steps.filter(Number.isInteger)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(steps.toSorted((a, b) => a - b)).toEqual(steps);
    // Prompts of some tiles and sixteen tokens: each run is seen on its way, answers and forced ones alike.
    for (let run = 0; run < 6; run++)
      expect(steps.filter(done => done > run && done < run + 1).length, `run ${run}`).toBeGreaterThan(2);
    const rows = all.filter(({ type }) => type === 'row').map(({ row }) => row as Record<string, number>);
    expect(rows.map(({ recipe }) => recipe)).toEqual(['full', 'random(keep=0.05)', 'snapkv(keep=1)']);
    const [full, random, whole] = rows;
    expect(full).toMatchObject({ agreement: 1, lost: 0, kept_share: 1, bytes_share: 1 });
    expect(whole!.answer).toBe(full!.answer);
    expect(whole!.agreement).toBe(1);
    expect(Math.abs(whole!.lost!)).toBeLessThan(1e-3);
    expect(random!.bytes).toBeLessThan(0.5 * full!.bytes!);
    // At the end of the prompt: neither answer, whatever its length, is counted.
    expect(full!.kept).toBe(all[0]!.prompt_tokens);
    expect(random!.kept_share).toBeCloseTo(0.05, 2);
    expect(rows.map(({ parked }) => parked)).toEqual([0, 0, 0]);
    expect(random!.lost).toBeGreaterThan(0.1);
    // The same tokens are drawn where the answer is written and where the full cache's is forced.
    expect(random!.answer).not.toBe(full!.answer);
    expect(random!.agreement).toBeLessThan(1);
  });

  test('what is parked is told apart', async () => {
    const messages = [{ role: 'user', content: passkey(800, () => 0.4).text }];
    const response = await send({ messages, recipes: ['louiskv(place=memory)'], max_tokens: 2 });
    const rows = (await events(response)).flatMap(({ type, row }) =>
      type === 'row' ? [row as Record<string, number>] : [],
    );
    expect(rows[1]!.parked).toBeGreaterThan(0.5 * rows[0]!.bytes!);
    expect(rows[1]!.bytes_share).toBeLessThan(0.6);
  });

  test.each([
    ['no recipes', { recipes: [] }, 'recipes'],
    ['too many', { recipes: Array(13).fill('kivi') }, 'recipes'],
    ['an unknown method', { recipes: ['kivi', 'snap'] }, 'recipes[1]'],
    ['too long an answer', { recipes: ['kivi'], max_tokens: 513 }, 'max_tokens'],
    ['an unknown field', { recipes: ['kivi'], tokens: 3 }, 'tokens'],
  ])('refused: %s', async (_, body, param) => {
    const response = await send(body);
    expect(response.status).toBe(400);
    expect(((await response.json()) as { error: { param: string } }).error.param).toBe(param);
  });

  test('a client that leaves stops the work', async () => {
    const controller = new AbortController();
    const messages = [{ role: 'user', content: passkey(4000).text }];
    const response = await send({ messages, recipes: ['snapkv(keep=0.25)'] }, controller.signal);
    const reader = response.body!.getReader();
    await reader.read();
    controller.abort();
    await until(async () => {
      const { running, waiting, models } = await real.engine.stats();
      return running === 0 && waiting === 0 && models.every(({ cache }) => cache.sequences === 0);
    }, 'the engine is idle');
  });
});
