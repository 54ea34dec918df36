import { KvasirError } from '../../../errors.ts';
import type { DenseProvider } from '../../types.ts';

/**
 * The token-wise part on the CPU. `auto`: the native runtime where it is installed, else WASM.
 * Raises `unsupported` where the choice cannot run here.
 */
export async function denseProvider(choice: 'auto' | 'native' | 'wasm' = 'auto'): Promise<DenseProvider> {
  if (choice === 'wasm') return web();
  if (typeof process === 'undefined' || !process.versions?.node) {
    if (choice === 'auto') return web();
    throw new KvasirError('unsupported', 'The native runtime needs Node.', {
      field: 'provider',
      value: choice,
      allowed: ['wasm', 'auto'],
    });
  }
  const { nativeProvider } = await import('./native.node.ts');
  if (choice === 'native') return nativeProvider();
  return nativeProvider().catch(web);
}

async function web(): Promise<DenseProvider> {
  const { wasmProvider } = await import('./web.ts');
  return wasmProvider();
}
