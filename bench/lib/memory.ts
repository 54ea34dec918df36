import { readFileSync } from 'node:fs';

/** Resident bytes of a process, by the kernel's count. */
export interface Resident {
  readonly now: number;
  /** High-water mark since the process began (VmHWM); equal to `now` where the system does not say. */
  readonly peak: number;
}

/** Resident memory of this process, or of another by its id (Linux only). */
export function resident(pid: number | 'self' = 'self'): Resident {
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    const now = pid === 'self' ? process.memoryUsage.rss() : Number.NaN;
    return { now, peak: now };
  }
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024;
  return { now: field('VmRSS'), peak: field('VmHWM') };
}
