import { readFileSync } from 'node:fs';

/**
 * How busy the machine was with other things while a benchmark ran (Linux): a benchmark on a shared machine
 * says so. Shares of all cores' time.
 */
export class Busy {
  readonly #begin = sample();

  /** `machine`: all work, ours included; `stolen`: time that the hypervisor gave to others. NaN where unknown. */
  end(): { machine: number; stolen: number } {
    const now = sample();
    const total = now.total - this.#begin.total;
    return {
      machine: (now.work - this.#begin.work) / total,
      stolen: (now.stolen - this.#begin.stolen) / total,
    };
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
