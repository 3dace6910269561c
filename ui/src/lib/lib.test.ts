import { describe, expect, it } from 'vitest';

import { withFiles } from './content';
import { ago, bytes, context, count, duration, millis, rate, short } from './format';
import { mend, understood } from './locale';
import { Series, SPAN_S } from './series';
import { grouped, parsed, written } from './settings';
import { CLIENTS, snippets } from './snippets';
import { EventParser } from './sse';
import { branch, tip } from './tree';
import type { UsageRow } from './types';
import { dayName, daysBetween, errorList, figures } from './usage';

describe('server-sent events', () => {
  const text = ': hello\n\nevent: status\ndata: {"a":\ndata: 1}\nid: 7\n\ndata: x\r\n\r\n\n\ndata:[DONE]\n\n';
  const expected = [
    { name: 'status', data: '{"a":\n1}', id: '7' },
    { name: 'message', data: 'x', id: '' },
    { name: 'message', data: '[DONE]', id: '' },
  ];

  it('are the same however the bytes are cut', () => {
    for (let size = 1; size <= text.length; size += 1) {
      const parser = new EventParser();
      const found = [];
      for (let at = 0; at < text.length; at += size) found.push(...parser.push(text.slice(at, at + size)));
      expect(found, `pieces of ${size}`).toEqual(expected);
    }
  });

  it('are held back until they are whole', () => {
    const parser = new EventParser();
    expect(parser.push('data: half')).toEqual([]);
    expect(parser.push('\n')).toEqual([]);
    expect(parser.push('\n')).toEqual([{ name: 'message', data: 'half', id: '' }]);
  });
});

describe('a conversation', () => {
  const messages = [
    { id: 'q1', parent: null },
    { id: 'a1', parent: 'q1' },
    { id: 'a2', parent: 'q1' },
    { id: 'q2', parent: 'a2' },
    { id: 'q1b', parent: null },
  ];

  it('is shown as one branch, with the alternatives of each message', () => {
    const steps = branch(messages, 'q2');
    expect(steps.map((step) => step.message.id)).toEqual(['q1', 'a2', 'q2']);
    expect(steps[1]!.siblings.map((message) => message.id)).toEqual(['a1', 'a2']);
    expect(steps[1]!.position).toBe(1);
    expect(steps[0]!.siblings.map((message) => message.id)).toEqual(['q1', 'q1b']);
  });

  it('goes on from an alternative to its newest end', () => {
    expect(tip(messages, 'q1')).toBe('q2');
    expect(tip(messages, 'a1')).toBe('a1');
  });

  it('with a circle in it ends all the same', () => {
    expect(branch([{ id: 'a', parent: 'b' }, { id: 'b', parent: 'a' }], 'a')).toHaveLength(2);
  });
});

describe('numbers', () => {
  it('are short and say their unit', () => {
    expect([0, 999, 1000, 1_540_000, 4_700_000_000, 16e9, null].map(bytes)).toEqual(['0 B', '999 B', '1 KB', '1.5 MB', '4.7 GB', '16 GB', '–']);
    expect([999, 12_345, 596_049_920, 7.6e9, 123_456].map(short)).toEqual(['999', '12.3K', '596M', '7.6B', '123K']);
    expect([12_345, 1_234_567].map(count)).toEqual(['12,345', '1.2M']);
    expect([8192, 131_072, 40_000, 512].map(context)).toEqual(['8K', '128K', '40K', '512']);
    expect([12.4, 1234, 61_000].map(millis)).toEqual(['12 ms', '1.2 s', '1 min 1 s']);
    expect([5, 65, 3660, 90_000].map(duration)).toEqual(['5 s', '1 min 5 s', '1 h 1 min', '1 day']);
    expect([0, 7.25, 312.4].map(rate)).toEqual(['0', '7.3', '312']);
  });

  it('of time are as far as a person would say', () => {
    const now = new Date(2026, 5, 15, 12).getTime();
    expect(ago(now - 10_000, now)).toBe('just now');
    expect(ago(now - 5 * 60_000, now)).toBe('5 min ago');
    expect(ago(now - 3 * 3_600_000, now)).toBe('3 h ago');
    expect(ago(now - 24 * 3_600_000, now)).toBe('yesterday');
  });
});

describe('the last minutes', () => {
  const sample = { decode: 1, prefill: 2, active: 3, firstToken: null, memory: 4, cpu: 5 };

  it('keep one row a second, and forget', () => {
    const series = new Series();
    for (let second = 0; second < 1000; second += 1) {
      series.add(second * 1000, sample);
      series.add(second * 1000 + 500, { ...sample, decode: second });
    }
    const [times, decode] = series.columns('decode');
    expect(times.length).toBeLessThan(SPAN_S + 10);
    expect(decode!.at(-1)).toBe(999);
  });

  it('have a gap where nothing was heard', () => {
    const series = new Series();
    series.add(0, sample);
    series.add(60_000, sample);
    expect(series.columns('cpu')[1]).toEqual([5, null, 5]);
  });

  it('keep a first token that a later sample of the same second knows nothing of', () => {
    const series = new Series();
    series.add(1000, { ...sample, firstToken: 80 });
    series.add(1400, sample);
    expect(series.columns('firstToken')[1]).toEqual([80]);
  });
});

describe('settings', () => {
  it('are read from what was typed', () => {
    expect(parsed('number', ' 8081 ')).toBe(8081);
    expect(parsed('text', '15m')).toBe('15m');
    expect(parsed('list', '/a\n\n /b \n')).toEqual(['/a', '/b']);
    expect(parsed('text', '  ')).toBeNull();
    expect(() => parsed('number', 'eighty')).toThrow();
    expect(written(['/a', '/b'])).toBe('/a\n/b');
  });

  it('that the page does not know are shown all the same', () => {
    const setting = { value: null, default: null, source: 'default' as const, variable: null, restart_needed: false };
    const groups = grouped([{ ...setting, key: 'port' }, { ...setting, key: 'chat.new_thing', default: true }]);
    expect(groups.map((group) => group.title)).toEqual(['Server', 'More']);
    expect(groups[1]!.rows[0]!.shown).toMatchObject({ label: 'Chat new thing', kind: 'switch' });
  });
});

describe('snippets', () => {
  const target = { base: 'http://127.0.0.1:9191', model: "it's/a \"model\"", needsKey: false };

  it('hold the real address and model, quoted as each language wants', () => {
    for (const { id } of CLIENTS) {
      const { note, parts } = snippets(id, target);
      expect(parts.length > 0 || note, id).toBeTruthy();
      for (const part of parts) expect(part.text, id).not.toContain('undefined');
    }
    expect(snippets('python', target).parts[1]!.text).toContain('model="it\'s/a \\"model\\""');
    expect(snippets('curl', target).parts[0]!.text).toContain("it'\\''s");
    expect(JSON.parse(snippets('zed', target).parts[0]!.text)).toBeTruthy();
  });

  it('offer nothing that this version does not serve', () => {
    for (const id of ['codex', 'claude-code'] as const) {
      expect(snippets(id, target)).toMatchObject({ parts: [], note: expect.stringContaining('not serve yet') as string });
    }
    for (const { id } of CLIENTS) {
      for (const { text } of snippets(id, target).parts) expect(text).not.toMatch(/\/v1\/(messages|responses|embeddings)/);
    }
  });
});

describe('files', () => {
  it('go along in fences that their text cannot close', () => {
    const said = withFiles('Why?', [{ name: 'a.py', text: 'x = """\n```\n"""\n' }]);
    expect(said).toBe('a.py:\n````python\nx = """\n```\n"""\n````\n\nWhy?');
  });
});

describe('usage by day', () => {
  it('counts days through the end of a year and the change of clocks', () => {
    expect(daysBetween('2026-12-30', '2027-01-02')).toEqual(['2026-12-30', '2026-12-31', '2027-01-01', '2027-01-02']);
    expect(daysBetween('2026-03-28', '2026-03-30')).toHaveLength(3);
    expect(daysBetween('2026-03-02', '2026-03-01')).toEqual([]);
  });
  it('has nothing on days without a request', () => {
    const row = (day: string, requests: number) => ({ day, requests }) as UsageRow;
    const days = daysBetween('2026-05-01', '2026-05-03');
    expect(figures(days, [row('2026-05-03', 7), row('2026-05-01', 2)], (one) => one.requests)).toEqual([2, 0, 7]);
  });
  it('names the year of days that are not of this one', () => {
    const now = new Date(2026, 5, 1);
    expect(dayName('2026-05-31', now)).not.toContain('2026');
    expect(dayName('2025-05-31', now)).toContain('2025');
    expect(dayName('2026-05-31', now)).toContain('31');
  });
  it('lists the most frequent error first', () => {
    expect(errorList({ errors: { queue_full: 1, invalid_value: 12 } } as unknown as UsageRow)).toBe('invalid_value 12, queue_full 1');
  });
});

describe('languages that Intl refuses', () => {
  const browser = (language: string, ...languages: string[]) => ({ language, languages: [language, ...languages] });
  it('are replaced by one that it knows', () => {
    for (const [about, expected] of [
      [browser('C'), 'en-US'],
      [browser('en-US@posix', 'de-DE'), 'de-DE'],
      [browser('fr-FR'), 'fr-FR'],
    ] as const) {
      mend(about);
      expect(about.language).toBe(expected);
      expect(about.languages.every(understood)).toBe(true);
    }
  });
});
