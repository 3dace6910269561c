// Usage as it is plotted: one figure for each day, days without a request included.

import type { UsageRow } from './types';

/** Days from `from` to `to`, both included, as `2026-05-31`. */
export function daysBetween(from: string, to: string): string[] {
  const days: string[] = [];
  const end = utc(to);
  for (let at = utc(from); at <= end && days.length < 4000; at += 86_400_000) days.push(new Date(at).toISOString().slice(0, 10));
  return days;
}

/** Midnight in UTC: days are counted, whatever the clock does in spring. */
function utc(day: string): number {
  return Date.parse(`${day}T00:00:00Z`);
}

/** `3 Mar`, or `3 Mar 2025` where the year is not this one. */
export function dayName(day: string, now = new Date()): string {
  const year = day.slice(0, 4) === String(now.getFullYear()) ? {} : { year: 'numeric' as const };
  return new Date(utc(day)).toLocaleDateString([], { day: 'numeric', month: 'short', timeZone: 'UTC', ...year });
}

/** A figure of each day; 0 where there was none. */
export function figures(days: string[], rows: UsageRow[], read: (row: UsageRow) => number): number[] {
  const byDay = new Map(rows.map((row) => [row.day, read(row)]));
  return days.map((day) => byDay.get(day) ?? 0);
}

/** What a row of models is called. */
export function modelName(row: UsageRow): string {
  return row.model || 'No model';
}

/** `queue_full 3, model_not_found 1`. */
export function errorList(row: UsageRow): string {
  return Object.entries(row.errors)
    .sort(([, a], [, b]) => b - a)
    .map(([code, n]) => `${code} ${n}`)
    .join(', ');
}
