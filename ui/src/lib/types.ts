// Names for the types that are generated from the server's own description.

import type { components } from '../api/schema';

type S = components['schemas'];

export type Status = S['Status'];
export type ModelStatus = S['ModelStatus'];
export type ModelState = S['ModelState'];
export type Problem = S['Problem'];
export type RequestRecord = S['RequestRecord'];
export type Settings = S['Settings'];
export type Setting = S['Setting'];
export type ApiKeyInfo = S['ApiKeyInfo'];
export type CreatedKey = S['CreatedKey'];
export type LogLine = S['LogLine'];
export type LogLevel = S['LogLevel'];
export type LogList = S['LogList'];
export type LocalModel = S['LocalModel'];
export type LocalModelList = S['LocalModelList'];
export type Removal = S['Removal'];
export type StorageStats = S['StorageStats'];
export type StorageItem = S['StorageItem'];
export type CleanupReport = S['CleanupReport'];
export type ImportReport = S['ImportReport'];
export type ImportRequest = S['ImportRequest'];
export type HubModel = S['HubModel'];
export type HubModelList = S['HubModelList'];
export type HubModelDetails = S['HubModelDetails'];
export type HubVariant = S['HubVariant'];
export type HubSort = S['HubSort'];
export type Fit = S['Fit'];
export type GgufProviderList = S['GgufProviderList'];
export type PopularList = S['PopularList'];
export type PopularModel = S['PopularModel'];
export type Download = S['Download'];
export type DownloadList = S['DownloadList'];
export type Conversation = S['Conversation'];
export type ConversationDetail = S['ConversationDetail'];
export type ConversationList = S['ConversationList'];
export type Message = S['ConversationMessage'];
export type Sampling = Partial<S['SamplingSettings']>;
export type ChatTurn = S['ChatTurn'];
export type ChatTurnEvent = S['ChatTurnEvent'];
export type ChatModel = S['ChatModel'];
export type ChatModels = S['ChatModels'];
export type DefaultModel = S['DefaultModel'];
export type ServerState = S['ServerState'];
