import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readGolden, testPath } from './golden.ts';

const names = readdirSync(testPath('golden')).flatMap(file => /^logits-(.*)\.safetensors$/.exec(file)?.[1] ?? []);

describe('golden files agree with themselves', () => {
  it.each(names)('%s', name => {
    const { prompts } = readGolden(name);
    expect(prompts.size).toBeGreaterThan(2);
    for (const [n, prompt] of prompts) {
      expect(prompt.ids.length).toBe(n);
      for (const list of [prompt.argmax, prompt.maximum, prompt.logsumexp]) expect(list.length).toBe(n);
      expect(prompt.positions).toContain(n - 1);
      for (const [i, position] of prompt.positions.entries()) {
        const row = prompt.logits ? prompt.logits[i]! : prompt.top![i]!.logits;
        const highest = row.reduce((a, b) => Math.max(a, b));
        expect(highest).toBe(prompt.maximum[position]);
        const sum = row.reduce((a, b) => a + Math.exp(b - highest), 0);
        if (prompt.logits) expect(highest + Math.log(sum)).toBeCloseTo(prompt.logsumexp[position]!, 4);
        else expect(highest + Math.log(sum)).toBeLessThan(prompt.logsumexp[position]! + 1e-4);
      }
      if (prompt.greedy) {
        expect(prompt.greedy.ids[0]).toBe(prompt.argmax[n - 1]);
        expect(prompt.greedy.gaps.length).toBe(prompt.greedy.ids.length);
      }
    }
  });
});
