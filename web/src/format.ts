// Numbers, sizes and times as people read them. Everything fits a narrow column and carries its unit.

const NUMBER = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** `1,234,567`. */
export function count(value: number): string {
  return NUMBER.format(value);
}

/** `950`, `12.3 k`, `4.56 M`: three figures at most. */
export function short(value: number): string {
  return scaled(value, 1000, ['', ' k', ' M', ' G', ' T', ' P']);
}

/** `0 B`, `1.50 KiB`, `2.00 GiB`. */
export function bytes(value: number): string {
  return scaled(value, 1024, [' B', ' KiB', ' MiB', ' GiB', ' TiB', ' PiB']);
}

function scaled(value: number, base: number, units: string[]): string {
  let size = Math.max(0, value);
  let unit = 0;
  // 999.6 would be written as 1000.
  while (unit < units.length - 1 && size >= (unit === 0 ? base : base - 0.5)) {
    size /= base;
    unit += 1;
  }
  const digits = unit === 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return `${size.toFixed(digits)}${units[unit]}`;
}

/** `840 ms`, `12.3 s`, `4 m 05 s`, `2 h 07 m`, `3 d 04 h`. */
export function duration(millis: number): string {
  const time = Math.max(0, millis);
  if (time < 999.5) return `${Math.round(time)} ms`;
  if (time < 59_950) return `${(time / 1000).toFixed(time < 9_950 ? 2 : 1)} s`;
  const seconds = Math.round(time / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${two(seconds % 60)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} m`;
  const hours = Math.floor(minutes / 60);
  return `${Math.floor(hours / 24)} d ${two(hours % 24)} h`;
}

/** Of something that goes on: whole seconds, so that it does not flicker. */
export function running(millis: number): string {
  const time = Math.max(0, millis);
  return time < 60_000 ? `${Math.floor(time / 1000)} s` : duration(time);
}

/** `just now`, `12 s ago`, `3 m ago`, `2 h ago`, `5 d ago`. */
export function ago(at: number, now: number): string {
  const seconds = Math.floor((now - at) / 1000);
  if (seconds < 2) return 'just now';
  if (seconds < 60) return `${seconds} s ago`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} m ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ago`;
  return `${Math.floor(hours / 24)} d ago`;
}

/** `2026-03-01 14:05:09.120` where the reader is, for hovering over. */
export function absolute(at: number): string {
  const date = new Date(at);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const millis = String(date.getMilliseconds()).padStart(3, '0');
  return `${day} ${clock(at)}.${millis}`;
}

/** `14:05:09` where the reader is. */
export function clock(at: number): string {
  const date = new Date(at);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** `1 task`, `2 tasks`. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}
