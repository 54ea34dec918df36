import { KvasirError } from '../../errors.ts';

/** Builds of the kernels (scripts/build-kernels.ts). `single` is for unshared memory. */
export type KernelVariant = 'relaxed' | 'plain' | 'single';
export const KERNEL_VARIANTS = ['relaxed', 'plain', 'single'] as const satisfies readonly KernelVariant[];

const modules = new Map<KernelVariant, Promise<WebAssembly.Module>>();

/** The compiled kernels of one variant; compiled once. Raises `unsupported` where the platform lacks what it needs. */
export function kernelModule(variant: KernelVariant): Promise<WebAssembly.Module> {
  let module = modules.get(variant);
  if (!module) {
    module = load(variant);
    modules.set(variant, module);
    module.catch(() => modules.delete(variant));
  }
  return module;
}

async function load(variant: KernelVariant): Promise<WebAssembly.Module> {
  const bytes = await (inNode() ? (await import('./wasm.node.ts')).readKernels(variant) : fetchKernels(variant));
  if (!WebAssembly.validate(bytes)) {
    throw new KvasirError('unsupported', `This platform cannot run the ${variant} kernels`, {
      field: 'variant',
      value: variant,
    });
  }
  return WebAssembly.compile(bytes);
}

/** The best variant that runs here. */
export async function bestVariant(shared: boolean): Promise<KernelVariant> {
  if (!shared) return 'single';
  try {
    await kernelModule('relaxed');
    return 'relaxed';
  } catch (error) {
    if (error instanceof KvasirError && error.code === 'unsupported') return 'plain';
    throw error;
  }
}

export function inNode(): boolean {
  return typeof process !== 'undefined' && typeof process.versions?.node === 'string';
}

/** Bundlers find these files by the literal URLs. */
const urls: Record<KernelVariant, () => URL> = {
  relaxed: () => new URL('../../../build/kernels-relaxed.wasm', import.meta.url),
  plain: () => new URL('../../../build/kernels-plain.wasm', import.meta.url),
  single: () => new URL('../../../build/kernels-single.wasm', import.meta.url),
};

async function fetchKernels(variant: KernelVariant): Promise<Uint8Array<ArrayBuffer>> {
  const url = urls[variant]();
  const response = await fetch(url);
  if (!response.ok) throw new KvasirError('backend_failed', `${url} answered ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}
