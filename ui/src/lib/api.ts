// Every call that the dashboard makes, by name.

import { events, inPath, query, request, requestBlob, requestText, type Options } from './http';
import type {
  AppState, ChatModels, ChatTurn, ChatTurnEvent, CleanupReport, Conversation, ConversationDetail, ConversationList,
  DefaultModel, Download, DownloadList, GgufProviderList, HubModelDetails, HubModelList, ImportReport, ImportRequest,
  LocalModelList, LogLevel, LogLine, PopularList, Removal, RequestRecord, ServerState, Settings, StorageStats, UsageReport,
} from './types';

const post = <T>(path: string, body: unknown = {}) => request<T>(path, { method: 'POST', body });

// The server.
export const fetchRequests = async () => (await request<{ requests: RequestRecord[] }>('/api/requests')).requests;
export const controlServer = (action: 'start' | 'stop' | 'restart') => post<ServerState>(`/api/server/${action}`);
export const fetchSettings = () => request<Settings>('/api/settings');
export const changeSettings = (patch: {
  settings?: Record<string, unknown>;
  add_keys?: { name: string; scopes: string[] }[];
  remove_keys?: string[];
}) => request<Settings>('/api/settings', { method: 'PATCH', body: patch });

export async function* watchLogs(level: LogLevel, signal: AbortSignal): AsyncGenerator<LogLine> {
  for await (const event of events(`/api/logs/stream${query({ level, limit: 1000 })}`, { signal })) {
    if (event.name === 'log') yield JSON.parse(event.data) as LogLine;
  }
}

// The app's place in the session; only its own window can ask.
export const fetchApp = () => request<AppState>('/api/app');
export const changeApp = (patch: { launch_at_login: boolean }) => request<AppState>('/api/app', { method: 'PATCH', body: patch });

// Usage.
export const fetchUsage = (what: { days: number; by: 'day' | 'model'; model?: string | undefined }, signal: AbortSignal) =>
  request<UsageReport>(`/v1/admin/usage${query(what)}`, { signal });
export const exportUsage = (format: 'csv' | 'parquet') => requestBlob(`/v1/admin/usage/export${query({ format })}`);
export const eraseUsage = () => request<unknown>('/v1/admin/usage', { method: 'DELETE' });

// Models in memory.
export const loadModel = (model: string) => post('/api/v1/load-model', { model });
export const unloadModel = (model: string, inUse: 'refuse' | 'wait' | 'cancel' = 'refuse') =>
  post('/api/v1/unload-model', { model, in_use: inUse });
export const pinModel = (model: string, pinned: boolean) =>
  post(`/api/v1/${pinned ? 'pin' : 'unpin'}-model`, { model });
export const fetchDefaultModel = () => request<DefaultModel>('/api/default-model');
export const setDefaultModel = (model: string | null) =>
  request<DefaultModel>('/api/default-model', { method: 'PUT', body: { model } });
export const reloadModels = () => post('/v1/admin/reload');

// Models on this machine.
export const fetchLocalModels = () => request<LocalModelList>('/local/models');
export const removeModel = (id: string, options: { dry_run?: boolean; force?: boolean; files?: boolean }) =>
  request<Removal>(`/local/models/${inPath(id)}${query(options)}`, { method: 'DELETE' });
export const importModels = (what: Partial<ImportRequest>) => post<ImportReport>('/local/import', what);
export const fetchStorage = () => request<StorageStats>('/local/storage/stats');
export const cleanUp = (dryRun: boolean) => post<CleanupReport>('/local/storage/cleanup', { dry_run: dryRun });

// The hub.
export const searchHub = (what: Record<string, string | number | undefined>, signal?: AbortSignal) =>
  request<HubModelList>(`/hub/search${query(what)}`, { signal });
export const fetchPopular = () => request<PopularList>('/hub/popular');
export const fetchHubModel = (id: string, signal?: AbortSignal) =>
  request<HubModelDetails>(`/hub/model/${inPath(id)}`, { signal });
export const fetchProviders = (id: string, signal?: AbortSignal) =>
  request<GgufProviderList>(`/hub/model/${inPath(id)}/gguf-providers`, { signal });

// Downloads.
export const startDownload = (model: string) => post<Download>('/local/download', { model });
export const pauseDownload = (id: string) => post<Download>(`/local/download/${inPath(id)}/pause`);
export const resumeDownload = (id: string) => post<Download>(`/local/download/${inPath(id)}/resume`);
export const removeDownload = (id: string) => request<unknown>(`/local/download/${inPath(id)}`, { method: 'DELETE' });

export async function* watchDownloads(signal: AbortSignal): AsyncGenerator<DownloadList> {
  for await (const event of events('/local/download/status', { signal })) {
    yield JSON.parse(event.data) as DownloadList;
  }
}

// Conversations.
const CHAT = '/api/v1/chat';
const conversationPath = (id: string) => `${CHAT}/conversation/${encodeURIComponent(id)}`;
export const fetchChatModels = () => request<ChatModels>(`${CHAT}/models`);
export const fetchConversations = (what: { q?: string; cursor?: string; limit?: number }, signal?: AbortSignal) =>
  request<ConversationList>(`${CHAT}/conversations${query(what)}`, { signal });
export const fetchConversation = (id: string, signal?: AbortSignal) =>
  request<ConversationDetail>(conversationPath(id), { signal });
export const newConversation = (what: Record<string, unknown>) => post<Conversation>(`${CHAT}/new`, what);
export const changeConversation = (id: string, patch: Record<string, unknown>) =>
  request<Conversation>(conversationPath(id), { method: 'PATCH', body: patch });
export const deleteConversation = (id: string) => request<unknown>(conversationPath(id), { method: 'DELETE' });
export const forkConversation = (id: string, messageId: string) =>
  post<Conversation | ConversationDetail>(`${conversationPath(id)}/fork`, { message_id: messageId });
export const exportConversation = (id: string, format: 'json' | 'markdown') =>
  requestText(`${conversationPath(id)}/export${query({ format })}`);
export const importConversations = (body: unknown) =>
  post<{ conversations: Conversation[] }>(`${CHAT}/import`, body);

export async function* say(turn: Partial<ChatTurn>, signal: AbortSignal): AsyncGenerator<ChatTurnEvent> {
  const options: Options = { method: 'POST', body: { ...turn, stream: true }, signal };
  for await (const event of events(CHAT, options)) {
    if (event.data === '[DONE]') return;
    yield JSON.parse(event.data) as ChatTurnEvent;
  }
}
