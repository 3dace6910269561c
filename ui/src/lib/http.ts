// Requests to the server: JSON in and out, its errors as it said them, streams of events, the key if one is needed.

import { EventParser, type ServerEvent } from './sse';

/** An error that the server answered with, or that kept it from answering (`status` 0). */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
    readonly param: string | null = null,
  ) {
    super(message);
    this.name = 'ApiError';
  }

  get offline(): boolean {
    return this.status === 0;
  }
}

const KEY = 'perch.key';

/** The key for this tab, or the one that this browser was told to remember. */
export const storedKey = {
  get(): string | null {
    return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
  },
  set(key: string, remember: boolean): void {
    this.forget();
    (remember ? localStorage : sessionStorage).setItem(KEY, key);
  },
  forget(): void {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
  },
};

/** Told when the server wants a key that it was not given. */
export const onKeyNeeded: { tell: ((error: ApiError) => void) | null } = { tell: null };

export interface Options {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  body?: unknown;
  signal?: AbortSignal | undefined;
}

async function send(path: string, { method = 'GET', body, signal }: Options, accept: string): Promise<Response> {
  const headers: Record<string, string> = { accept };
  const key = storedKey.get();
  if (key) headers['authorization'] = `Bearer ${key}`;
  const writes = method === 'POST' || method === 'PUT' || method === 'PATCH';
  if (writes) headers['content-type'] = 'application/json';
  let response: Response;
  try {
    const sent = writes ? JSON.stringify(body ?? {}) : null;
    response = await fetch(path, { method, headers, body: sent, signal: signal ?? null, cache: 'no-store' });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError('Perch does not answer. Is it still running?', 0, 'unreachable');
  }
  if (response.ok) return response;
  const error = await failure(response);
  if (error.status === 401) onKeyNeeded.tell?.(error);
  throw error;
}

/** The envelope of an answer that is an error. */
async function failure(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  try {
    const { error } = JSON.parse(text) as { error: { message: string; code?: string; param?: string | null } };
    return new ApiError(error.message, response.status, error.code ?? '', error.param ?? null);
  } catch {
    return new ApiError(`Perch answered ${response.status} ${response.statusText}`.trim(), response.status, '');
  }
}

export async function request<T>(path: string, options: Options = {}): Promise<T> {
  const response = await send(path, options, 'application/json');
  return (response.status === 204 ? null : await response.json()) as T;
}

export async function requestText(path: string): Promise<string> {
  return (await send(path, {}, '*/*')).text();
}

export async function requestBlob(path: string): Promise<Blob> {
  return (await send(path, {}, '*/*')).blob();
}

/** Events until the stream ends. Throws where it breaks off. */
export async function* events(path: string, options: Options = {}): AsyncGenerator<ServerEvent> {
  const response = await send(path, options, 'text/event-stream');
  const reader = response.body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      let chunk;
      try {
        chunk = await reader.read();
      } catch (error) {
        if (options.signal?.aborted) throw error;
        throw new ApiError('The connection to Perch broke off.', 0, 'unreachable');
      }
      if (chunk.done) return;
      yield* parser.push(decoder.decode(chunk.value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** What to show of anything that was thrown. */
export function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

export function query(values: Record<string, string | number | boolean | null | undefined>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== '') search.set(name, String(value));
  }
  const text = search.toString();
  return text ? `?${text}` : '';
}

/** An id in a path: its slashes stay. */
export function inPath(id: string): string {
  return id.split('/').map(encodeURIComponent).join('/');
}
