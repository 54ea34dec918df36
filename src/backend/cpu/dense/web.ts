import { KvasirError } from '../../../errors.ts';
import type { DenseProvider } from '../../types.ts';
export async function wasmProvider(): Promise<DenseProvider> {
  throw new KvasirError('unsupported', 'not yet');
}
