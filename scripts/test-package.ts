/**
 * Packs the package, installs it in an empty folder without this repository's .npmrc, and uses it there: by npx,
 * natively and with the WASM provider alone, as a library, from TypeScript, and on a Node that is too old.
 */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { ROOT, step } from './steps.ts';

const folder = await mkdtemp(join(tmpdir(), 'kvasir-package-'));
// Node 24 first, as npm scripts have it; the native runtime must not try to download GPU files.
const env = {
  PATH: [dirname(process.execPath), process.env.PATH].join(delimiter),
  ONNXRUNTIME_NODE_INSTALL: 'skip',
  KVASIR_CACHE: join(folder, 'cache'),
  npm_config_local_prefix: undefined,
};
let passed = 0;

async function check(what: string, work: () => Promise<void>): Promise<void> {
  const started = performance.now();
  await work();
  passed++;
  console.log(`ok ${what} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
}

function expect(condition: unknown, what: string, seen: unknown): void {
  if (!condition) throw new Error(`${what}\n${typeof seen === 'string' ? seen : JSON.stringify(seen)}`);
}

const PROMPT = ['--prompt', 'Hello! What is your name?', '--max-tokens', '8', '--temperature', '0', '--json'];

async function generate(cwd: string, ...more: string[]): Promise<{ text: string; tokens: number[] }> {
  const { stdout } = await step('npx', ['--no-install', 'kvasir', 'generate', ...PROMPT, ...more], { cwd, env });
  const answer = JSON.parse(stdout);
  expect(
    typeof answer.text === 'string' && answer.tokens.length > 0 && answer.usage.promptTokens > 0,
    'no answer',
    answer,
  );
  return answer;
}

try {
  const app = join(folder, 'app');
  await mkdir(app);
  await writeFile(join(app, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module' }));
  let tarball = '';

  await check('npm pack', async () => {
    await step('npm', ['pack', '--silent', '--pack-destination', folder], { env });
    tarball = join(folder, (await readdir(folder)).find(name => name.endsWith('.tgz'))!);
  });
  await check('npm install in an empty folder', async () => {
    await step('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', tarball], { cwd: app, env });
    const inside = await readdir(join(app, 'node_modules', 'kvasir'), { recursive: true });
    for (const part of [
      'dist/models/kvasir-mini.gguf',
      'dist/models/kvasir-mini.razor-attention.json',
      'dist/models/kvasir-mini.kvquant.json',
      'dist/models/kvasir-mini.prefixkv.json',
      'dist/src/index.d.ts',
      'bin/kvasir.js',
      'LICENSE',
      'README.md',
    ]) {
      expect(inside.includes(part), `the package lacks ${part}`, inside.length);
    }
    const stray = inside.filter(
      name => /\.test\.|(^|\/)(test|training|scripts)\//.test(name) || /[^d]\.ts$/.test(name),
    );
    expect(stray.length === 0, 'the package holds what it should not', stray);
  });
  await check('npx kvasir models', async () => {
    const { stdout } = await step('npx', ['--no-install', 'kvasir', 'models', '--json'], { cwd: app, env });
    expect(
      JSON.parse(stdout).models.some((model: { name: string }) => model.name === 'kvasir-mini'),
      'no bundled model',
      stdout,
    );
  });
  const native = existsSync(join(app, 'node_modules', 'onnxruntime-node'));
  if (native)
    await check('npx kvasir generate, native', async () => void (await generate(app, '--provider', 'native')));
  else console.log('skipped: npx kvasir generate, native (onnxruntime-node could not be installed here)');
  await check('npx kvasir generate, WASM asked for', async () => void (await generate(app, '--provider', 'wasm')));

  await check('import from a module', async () => {
    await writeFile(
      join(app, 'use.js'),
      `import { KvasirError, load } from 'kvasir';
       const model = await load('kvasir-mini');
       let text = '';
       for await (const part of model.chat([{ role: 'user', content: 'Hello!' }], { maxTokens: 8, temperature: 0 })) text += part.text;
       await model.dispose();
       const refused = await load('absent').catch(error => error instanceof KvasirError && error.code);
       console.log(JSON.stringify({ text, refused }));`,
    );
    const { stdout } = await step(process.execPath, ['use.js'], { cwd: app, env });
    const { text, refused } = JSON.parse(stdout);
    expect(text.length > 0 && refused === 'model_not_found', 'the library does not work', stdout);
  });
  await check('types for a consumer', async () => {
    await writeFile(
      join(app, 'use.ts'),
      `import { load, KvasirError, type GeneratePart } from 'kvasir';
       import kvasir from 'kvasir';
       const model = await load('kvasir-mini', { cache: 'int8' });
       const first: Promise<unknown> = kvasir.load('kvasir-mini');
       for await (const part of model.chat([{ role: 'user', content: 'x' }], { maxTokens: 3 })) console.log(part);
       // @ts-expect-error: no such format
       await load('kvasir-mini', { cache: 'int3' });
       export type { GeneratePart };
       export { first, KvasirError };`,
    );
    const options = [
      '--noEmit',
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'es2024',
      '--lib',
      'es2024,esnext.disposable,dom',
    ];
    await step(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), ...options, '--types', '', 'use.ts'], {
      cwd: app,
      env,
    });
  });
  await check('npx kvasir generate, no native runtime installed', async () => {
    await rm(join(app, 'node_modules', 'onnxruntime-node'), { recursive: true, force: true });
    await generate(app);
  });

  const old = ['/usr/bin/node', '/usr/local/bin/node'];
  for (const node of old.filter(path => existsSync(path))) {
    const version = (await step(node, ['--version'])).stdout.trim().slice(1);
    const [major = 0, minor = 0] = version.split('.').map(Number);
    if (major > 22 || (major === 22 && minor >= 12)) continue;
    await check(`Node ${version} is told which one is needed`, async () => {
      const result = await step(node, [join(app, 'node_modules/kvasir/bin/kvasir.js'), 'models'], {
        mayFail: true,
        env,
      });
      expect(result.code === 1 && /needs Node 22\.12\.0 or later/.test(result.stderr), 'no clear message', result);
    });
    break;
  }
  console.log(`package: ${passed} passed, 0 failed`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.log(`package: ${passed} passed, 1 failed`);
  process.exitCode = 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}
