// Numbers, sizes and times as people read them.

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB'];

/** Sizes as macOS shows them: units of 1000. */
export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–';
  let unit = 0;
  let size = value;
  while (size >= 999.5 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || size >= 99.95 ? 0 : unit >= 3 || size < 9.95 ? 1 : 0;
  return `${size.toFixed(digits).replace(/\.0$/, '')} ${UNITS[unit]}`;
}

/** 1,234 up to 99,999, then 123K, 1.2M, 7.6B. */
export function count(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–';
  if (value < 100_000) return Math.round(value).toLocaleString('en-US');
  return short(value);
}

/** 7.6B, 596M, 12K. */
export function short(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–';
  for (const [size, unit] of [[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'K']] as const) {
    if (value >= size * 0.9995) {
      const shown = value / size;
      return `${shown >= 99.95 ? shown.toFixed(0) : shown.toFixed(1).replace(/\.0$/, '')}${unit}`;
    }
  }
  return String(Math.round(value));
}

/** Tokens of context: 8K, 128K, as they are powers of two. */
export function context(tokens: number | null | undefined): string {
  if (!tokens) return '–';
  if (tokens >= 1024 && tokens % 1024 === 0) return `${tokens / 1024}K`;
  return tokens >= 10_000 ? `${Math.round(tokens / 1000)}K` : String(tokens);
}

export function millis(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return '–';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  return duration(ms / 1000);
}

export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60 ? `${s % 60} s` : ''}`.trim();
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  const days = Math.floor(s / 86_400);
  return `${days} ${days === 1 ? 'day' : 'days'}`;
}

export function rate(tokensPerSecond: number): string {
  if (!Number.isFinite(tokensPerSecond) || tokensPerSecond <= 0) return '0';
  return tokensPerSecond >= 99.5 ? tokensPerSecond.toFixed(0) : tokensPerSecond.toFixed(1);
}

export function clock(at: number): string {
  return new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
}

/** `just now`, `5 min ago`, `yesterday`, `3 Mar`. */
export function ago(at: number | null | undefined, now = Date.now()): string {
  if (!at) return '–';
  const s = (now - at) / 1000;
  if (s < 45) return 'just now';
  if (s < 3600) return `${Math.max(1, Math.round(s / 60))} min ago`;
  const day = (time: number) => new Date(time).setHours(0, 0, 0, 0);
  const days = Math.round((day(now) - day(at)) / 86_400_000);
  if (days === 0) return `${Math.round(s / 3600)} h ago`;
  if (days === 1) return 'yesterday';
  if (days < 7) return `${days} days ago`;
  const date = new Date(at);
  const year = date.getFullYear() === new Date(now).getFullYear() ? {} : { year: 'numeric' as const };
  return date.toLocaleDateString([], { day: 'numeric', month: 'short', ...year });
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString('en-US')} ${n === 1 ? one : many}`;
}
