// What a message says, as text; and files as part of what is said.

import type { Message } from './types';

/** The text of a message; parts that are no text are left out. */
export function textOf(content: Message['content'] | null | undefined): string {
  if (content === null || content === undefined) return '';
  if (typeof content === 'string') return content;
  return (content as { text?: string }[]).map((part) => part.text ?? '').join('');
}

export const LARGEST_FILE = 400_000;

export interface Attached {
  name: string;
  text: string;
}

/** The text of a file, or why it cannot go along. */
export async function readFile(file: File): Promise<Attached | string> {
  if (file.type.startsWith('image/')) return `${file.name}: this version of Perch runs no model that takes images yet.`;
  if (file.size > LARGEST_FILE) return `${file.name} is larger than ${LARGEST_FILE / 1000} kB; attach the part that matters.`;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer());
    if (text.includes('\0')) throw new Error();
    return { name: file.name, text };
  } catch {
    return `${file.name} is no text file.`;
  }
}

/** What is sent: the files, each in a fence that its text cannot close, and then what was typed. */
export function withFiles(typed: string, files: Attached[]): string {
  const blocks = files.map(({ name, text }) => {
    const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map((run) => run[0].length));
    const fence = '`'.repeat(longest + 1);
    return `${name}:\n${fence}${extension(name)}\n${text.replace(/\n$/, '')}\n${fence}\n\n`;
  });
  return blocks.join('') + typed;
}

function extension(name: string): string {
  const found = /\.([a-z0-9]{1,10})$/i.exec(name)?.[1]?.toLowerCase() ?? '';
  const names: Record<string, string> = { py: 'python', js: 'javascript', ts: 'typescript', rs: 'rust', sh: 'bash', yml: 'yaml', h: 'c', html: 'xml', md: 'markdown' };
  return names[found] ?? found;
}
