import { expect, test } from 'vitest';
import { describeMethod } from '../methods/describe.ts';
import { findMethod, METHODS } from '../methods/index.ts';
import { runCli } from './cli.testing.ts';

test('kvasir methods: a table with a line for each', async () => {
  const { code, stdout } = await runCli(['methods']);
  expect(code).toBe(0);
  const lines = stdout.split('\n');
  expect(lines[0]).toMatch(/^name +family +stage +paper$/);
  expect(lines.slice(1, METHODS.length + 1).map(line => line.split(' ')[0])).toEqual(METHODS.map(({ name }) => name));
  expect(stdout).toMatch(/^snapkv +keep +keep +SnapKV \(2024-04, arXiv 2404\.14469\)$/m);
});

test('kvasir methods --json: every description', async () => {
  const { stdout } = await runCli(['methods', '--json']);
  expect(JSON.parse(stdout)).toEqual(JSON.parse(JSON.stringify(METHODS.map(describeMethod))));
});

test('one method in full', async () => {
  const { code, stdout } = await runCli(['methods', 'streaming-llm']);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^streaming-llm: StreamingLLM\n/);
  expect(stdout).toMatch(/^works with +kivi, /m);
  expect(stdout).toMatch(/^also as +streaming-llm\(positions=kept\) \+ xkv$/m);
  expect(stdout).toMatch(/^not with +other keep methods, /m);
  expect(stdout).toMatch(/^positions +kept or renumbered +"renumbered" +/m);
  const json = await runCli(['methods', 'streaming-llm', '--json']);
  expect(JSON.parse(json.stdout)).toEqual(JSON.parse(JSON.stringify(describeMethod(findMethod('streaming-llm')!))));
});

test.each([
  [['methods', 'snapvk'], /no such method: did you mean "snapkv"\? \(name: snapvk; allowed: full, /],
  [['methods', 'snapkv', 'kivi'], /too many arguments/],
])('refused: kvasir %j', async (argv, message) => {
  const { code, stdout, stderr } = await runCli(argv);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(message);
});
