// How settings are shown: what they are called, what they are for, and how their values are typed.

import type { Setting } from './types';

export type Kind = 'text' | 'number' | 'list' | 'choice' | 'switch';

export interface Shown {
  key: string;
  label: string;
  help: string;
  kind: Kind;
  choices?: { value: string; label: string }[];
  placeholder?: string;
}

export interface Group {
  title: string;
  shown: Shown[];
}

const row = (key: string, label: string, help: string, kind: Kind = 'text', more: Partial<Shown> = {}): Shown => ({
  key, label, help, kind, ...more,
});

export const GROUPS: Group[] = [
  {
    title: 'Server',
    shown: [
      row('port', 'Port', 'Where clients find Perch; 0 picks a free one.', 'number'),
      row('host', 'Address', '127.0.0.1 is this machine alone. Any other needs an API key.'),
      row('allowed_hosts', 'Allowed hosts', 'Further names under which clients may call it, such as mac.local.', 'list'),
      row('allowed_origins', 'Allowed web pages', 'Web pages and apps that may call it, such as app://obsidian.md.', 'list'),
    ],
  },
  {
    title: 'Models',
    shown: [
      row('models_dirs', 'Model folders', 'Looked through for models, besides Perch’s own and the Hugging Face cache.', 'list'),
      row('model', 'Default model', 'Answers requests that name none, and is loaded at the start.'),
      row('context', 'Longest context', 'In tokens; empty leaves it to each model.', 'number'),
      row('quantize', 'Round weights on load', 'Makes float models smaller and faster.', 'choice', {
        choices: [
          { value: '', label: 'As they are' },
          { value: 'q8_0', label: '8 bits' },
          { value: 'q6_k', label: '6 bits' },
          { value: 'q4_k', label: '4 bits' },
          { value: 'q4_0', label: '4 bits, simple' },
        ],
      }),
      row('max_downloads', 'Downloads at once', '', 'number'),
      row('backend', 'Backend', 'What runs the models; empty picks the best for this machine.'),
    ],
  },
  {
    title: 'Performance',
    shown: [
      row('performance', 'Mode', 'How much of the machine to take; the numbers below win over it.', 'choice', {
        choices: [
          { value: 'efficiency', label: 'Efficiency' },
          { value: 'balanced', label: 'Balanced' },
          { value: 'performance', label: 'Performance' },
        ],
      }),
      row('threads', 'Threads', 'That compute; empty leaves it to the mode.', 'number'),
    ],
  },
  {
    title: 'Memory',
    shown: [
      row('max_models', 'Models in memory', 'At once; the one not used longest makes room.', 'number'),
      row('idle_ttl', 'Unload when idle', 'After so long without use: 15m, 2h, never.'),
      row('memory_limit', 'Memory for models', 'All of them together, such as 24GiB; empty takes what the machine has.'),
      row('kv_budget', 'KV cache of each model', 'Such as 4GiB; empty takes a share of the memory.'),
      row('prefix_cache', 'Of it, for past prompts', 'How much may keep prompts that may come again.'),
    ],
  },
  {
    title: 'Conversations',
    shown: [
      row('chat.autosave', 'Keep conversations', 'Off: nothing is kept, and each question stands alone.', 'switch'),
      row('chat.system_prompt', 'System prompt', 'For conversations that have none of their own.'),
      row('chat.max_turns', 'Turns shown to the model', 'Older ones are left out; empty shows what fits.', 'number'),
    ],
  },
  {
    title: 'Usage',
    shown: [
      row('usage.enabled', 'Count requests', 'By day and model, on this machine alone; the page Usage shows it.', 'switch'),
      row('usage.retention_days', 'Days that are kept', 'Older ones are forgotten.', 'number'),
    ],
  },
  {
    title: 'Limits',
    shown: [
      row('max_sequences', 'Answers at once', 'For each model.', 'number'),
      row('queue_limit', 'Waiting requests', 'For each model; more are told to come back later.', 'number'),
      row('max_batch_tokens', 'Tokens of one step', 'More is quicker with long prompts and less smooth.', 'number'),
      row('load_timeout', 'Wait for loading', 'How long a request waits for its model.'),
      row('max_body', 'Largest request', 'Such as 16MiB.'),
      row('max_connections', 'Connections at once', '', 'number'),
      row('header_timeout', 'Wait for headers', 'How long a client may take to send them.'),
    ],
  },
  {
    title: 'Log',
    shown: [
      row('log', 'What to log', 'warn, info, debug, or perch_server=debug for one part.'),
      row('log_format', 'Format', '', 'choice', { choices: [{ value: 'text', label: 'Text' }, { value: 'json', label: 'JSON' }] }),
    ],
  },
];

/** The groups with what this server knows; what the page does not know by name comes last, as it is. */
export function grouped(settings: Setting[]): { title: string; rows: { shown: Shown; setting: Setting }[] }[] {
  const byKey = new Map(settings.map((setting) => [setting.key, setting]));
  const groups = GROUPS.map(({ title, shown }) => ({
    title,
    rows: shown.flatMap((one) => {
      const setting = byKey.get(one.key);
      byKey.delete(one.key);
      return setting ? [{ shown: one, setting }] : [];
    }),
  }));
  const others = [...byKey.values()].map((setting) => ({ shown: row(setting.key, named(setting.key), '', kindOf(setting)), setting }));
  if (others.length > 0) groups.push({ title: 'More', rows: others });
  return groups.filter((group) => group.rows.length > 0);
}

function named(key: string): string {
  const words = key.replaceAll(/[._]/g, ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function kindOf({ value, default: fallback }: Setting): Kind {
  const sample = value ?? fallback;
  if (typeof sample === 'boolean') return 'switch';
  if (typeof sample === 'number') return 'number';
  return Array.isArray(sample) ? 'list' : 'text';
}

/** A value as it is typed. */
export function written(value: unknown): string {
  if (value === null || value === undefined) return '';
  return Array.isArray(value) ? value.join('\n') : String(value);
}

/** What was typed, as a value; an empty field is null, which leaves it to Perch. Throws what is wrong. */
export function parsed(kind: Kind, text: string): unknown {
  const trimmed = text.trim();
  if (trimmed === '') return null;
  if (kind === 'list') return trimmed.split('\n').map((line) => line.trim()).filter((line) => line !== '');
  if (kind === 'switch') return trimmed === 'true';
  if (kind !== 'number') return trimmed;
  const number = Number(trimmed);
  if (!Number.isInteger(number) || number < 0) throw new Error('Write a whole number.');
  return number;
}

export function sourceText(setting: Setting): string {
  switch (setting.source) {
    case 'environment':
      return `Set by ${setting.variable ?? 'a variable'}, which wins over the file`;
    case 'flag':
      return 'Set by a flag of the command line, which wins over the file';
    default:
      return '';
  }
}
