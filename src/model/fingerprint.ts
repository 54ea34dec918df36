import type { ByteSource } from './types.ts';

const CHUNK = 4 << 20;
const SAMPLE = 256;

/** A SHA-256 chain: each part is hashed together with the digest of all before it. */
export class Fingerprint {
  private digest: Uint8Array<ArrayBuffer> = new Uint8Array(32);

  async add(part: Uint8Array): Promise<void> {
    const joined = new Uint8Array(32 + part.length);
    joined.set(this.digest);
    joined.set(part, 32);
    this.digest = new Uint8Array(await crypto.subtle.digest('SHA-256', joined));
  }

  async addText(text: string): Promise<void> {
    await this.add(new TextEncoder().encode(text));
  }

  /** All bytes of [from, to), a few MiB at a time. */
  async addRange(source: ByteSource, from: number, to: number): Promise<void> {
    for (let at = from; at < to; at += CHUNK) await this.add(await source.read(at, Math.min(CHUNK, to - at)));
  }

  /** Bytes out of the middle of each of these tensors. */
  async addSamples(tensors: Iterable<{ source: ByteSource; offset: number; byteLength: number }>): Promise<void> {
    const samples: Uint8Array[] = [];
    for (const { source, offset, byteLength } of tensors) {
      const length = Math.min(SAMPLE, byteLength);
      samples.push(await source.read(offset + Math.floor((byteLength - length) / 2), length));
    }
    const joined = new Uint8Array(samples.reduce((sum, sample) => sum + sample.length, 0));
    let at = 0;
    for (const sample of samples) {
      joined.set(sample, at);
      at += sample.length;
    }
    await this.add(joined);
  }

  /** 64 hexadecimal digits. */
  toString(): string {
    return Array.from(this.digest, byte => byte.toString(16).padStart(2, '0')).join('');
  }
}
