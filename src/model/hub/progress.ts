/** What a pull is doing, for a person who waits. */
export interface PullProgress {
  readonly phase: 'wait' | 'connect' | 'download' | 'unpack' | 'verify';
  /** The file, package or host concerned. */
  readonly what: string;
  /** Bytes of the whole pull that are on disk, and that there will be; 0 while unknown. */
  readonly received: number;
  readonly total: number;
}

export type OnPull = (progress: PullProgress) => void;
