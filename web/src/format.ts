/** 1536 -> `1.5 KiB` */
export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = count;
  let unit = 0;
  while (value >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${digits(value, unit === 0)} ${units[unit]}`;
}

/** 33700000 -> `33.7M` */
export function count(value: number): string {
  if (value >= 999.5e6) return `${digits(value / 1e9)}B`;
  if (value >= 999_500) return `${digits(value / 1e6)}M`;
  return value.toLocaleString('en');
}

/** 1234 -> `1.23 s`, 56.7 -> `57 ms` */
export function duration(ms: number): string {
  return ms < 999.5 ? `${Math.round(ms)} ms` : `${digits(ms / 1000)} s`;
}

/** 0.0271 -> `0.027 nats`; what rounds to nothing has no sign. */
export function nats(value: number): string {
  const text = value.toFixed(3);
  return `${Number(text) === 0 ? '0.000' : text} nats`;
}

export function rate(perSecond: number): string {
  return digits(perSecond);
}

/** Three figures are enough to read. */
function digits(value: number, whole = false): string {
  if (whole || value >= 99.95) return String(Math.round(value));
  return value >= 9.995 ? value.toFixed(1) : value.toFixed(2).replace(/\.00$/, '');
}
