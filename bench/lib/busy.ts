import { readFileSync } from 'node:fs';

/** Ticks a second of the kernel's user-visible clock (USER_HZ): 100 on every Linux that Node runs on. */
const TICKS = 100;

/** How busy a machine was while a benchmark ran on it (Linux; NaN elsewhere): shares of all cores' time. */
export interface Busyness {
  /** All work, the measured processes included. */
  readonly machine: number;
  /** Work of anyone else: above a few per cent, the figures are of a shared machine. */
  readonly others: number;
  /** Time that the hypervisor gave to other machines. */
  readonly stolen: number;
}

/** Watches the machine from its making on. */
export class Busy {
  readonly #begin = sample();

  /** @param own processor seconds of the processes that were measured since the beginning */
  end(own: number): Busyness {
    const now = sample();
    const total = now.total - this.#begin.total;
    const work = now.work - this.#begin.work;
    return {
      machine: work / total,
      others: Math.max(0, work - own * TICKS) / total,
      stolen: (now.stolen - this.#begin.stolen) / total,
    };
  }
}

/** Processor seconds, user and system, that a live process has used; NaN where unknown. */
export function processorSeconds(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name, in brackets, may hold blanks: count fields from its end.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS;
  } catch {
    return Number.NaN;
  }
}

function sample(): { total: number; work: number; stolen: number } {
  try {
    const [user, nice, system, idle, wait, irq, soft, stolen] = readFileSync('/proc/stat', 'utf8')
      .split('\n')[0]
      .trim()
      .split(/\s+/)
      .slice(1)
      .map(Number);
    const work = user + nice + system + irq + soft;
    return { total: work + idle + wait + stolen, work, stolen };
  } catch {
    return { total: Number.NaN, work: Number.NaN, stolen: Number.NaN };
  }
}
