import { mkdirSync, readdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

/** Builds build/kernels-{relaxed,plain,single}.wasm from kernels/*.ts; does nothing where they are newer than their sources. */

const root = fileURLToPath(new URL('..', import.meta.url));
const threads = ['--sharedMemory', '--enable', 'threads'];
/** Fused multiply-add and threads; threads; neither (browsers without cross-origin isolation). */
const variants: Record<string, string[]> = {
  relaxed: [...threads, '--enable', 'relaxed-simd'],
  plain: threads,
  single: ['--disable', 'threads'],
};

const modified = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

export async function buildKernels(): Promise<string[]> {
  const sources = readdirSync(`${root}kernels`).filter(name => name.endsWith('.ts'));
  const inputs = [...sources.map(name => `${root}kernels/${name}`), fileURLToPath(import.meta.url)];
  const newest = Math.max(...inputs.map(modified));
  mkdirSync(`${root}build`, { recursive: true });
  const built: string[] = [];
  for (const [variant, flags] of Object.entries(variants)) {
    const output = `build/kernels-${variant}.wasm`;
    if (modified(root + output) >= newest) continue;
    await compile(output, flags);
    built.push(output);
  }
  return built;
}

async function compile(output: string, flags: string[]): Promise<void> {
  // Compiled under a name of its own and renamed, so that nobody ever reads half a module.
  const temporary = `${output}.${process.pid}.tmp`;
  const { error, stderr } = await asc.main([
    'kernels/index.ts',
    ...['--baseDir', root, '--outFile', temporary],
    ...['--importMemory', '--noExportMemory', '--initialMemory', '1', '--maximumMemory', '65536'],
    ...['--runtime', 'stub', '--use', 'abort=', '--noAssert', '-O3', '--enable', 'simd'],
    ...flags,
  ]);
  if (error) throw new Error(`${output}: ${stderr.toString() || error.message}`);
  const bytes = readFileSync(root + temporary);
  if (!WebAssembly.validate(bytes)) throw new Error(`${output} is not valid here`);
  renameSync(root + temporary, root + output);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const built = await buildKernels();
  console.log(built.length > 0 ? `built ${built.join(', ')}` : 'kernels are up to date');
}
