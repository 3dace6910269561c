// Conversations: the list, the one that is shown, and the answers that are being written.
//
// An answer goes on while another page or conversation is shown. What arrives is shown once a frame.

import { SvelteMap } from 'svelte/reactivity';

import { changeConversation, fetchConversation, fetchConversations, newConversation, say } from './api';
import { Growing } from './growing.svelte';
import { isAbort, said } from './http';
import { drafts, remembered } from './prefs.svelte';
import { branch, tip, type Step } from './tree';
import type { ChatTurn, Conversation, Message, Sampling } from './types';

/** An answer that is being written. */
export class Running {
  id = $state('');
  /** What was said, until the server has it. */
  said = $state('');
  parent: string | null = null;
  readonly text = new Growing();
  reasoning = $state('');
  leftOut = $state(0);
  /** Pieces that arrived; about one a token. */
  pieces = 0;
  readonly begun = performance.now();
  firstAt = 0;
  /** Tokens a second so far, about. */
  speed = $state(0);
  readonly stop = new AbortController();
  private newText = '';
  private newReasoning = '';
  private frame = 0;

  take(content: string | null | undefined, reasoning: string | null | undefined): void {
    if (this.firstAt === 0) this.firstAt = performance.now();
    this.pieces += 1;
    this.newText += content ?? '';
    this.newReasoning += reasoning ?? '';
    // A hidden page gets no frames; what arrives meanwhile waits here.
    this.frame ||= requestAnimationFrame(() => this.flush());
  }

  flush(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.text.append(this.newText);
    this.reasoning += this.newReasoning;
    this.newText = '';
    this.newReasoning = '';
    const seconds = (performance.now() - this.firstAt) / 1000;
    if (seconds > 0.2) this.speed = (this.pieces - 1) / seconds;
  }
}

/** What a conversation that does not exist yet will be made with. */
export interface Options {
  model: string;
  system_prompt: string;
  sampling: Sampling;
}

const NEW = 'new';

class Chat {
  list = $state.raw<Conversation[]>([]);
  cursor = $state<string | null>(null);
  listProblem = $state('');
  notice = $state('');

  id = $state<string | null>(null);
  conversation = $state.raw<Conversation | null>(null);
  messages = $state.raw<Message[]>([]);
  head = $state<string | null>(null);
  problem = $state('');
  loading = $state(false);
  fresh = $state<Options>({ model: remembered.get('model') ?? '', system_prompt: '', sampling: {} });

  readonly running = new SvelteMap<string, Running>();
  private listing: AbortController | null = null;

  get key(): string {
    return this.id ?? NEW;
  }

  get current(): Running | undefined {
    return this.running.get(this.key);
  }

  get steps(): Step<Message>[] {
    return branch(this.messages, this.head);
  }

  async refreshList(words: string, more = false): Promise<void> {
    this.listing?.abort();
    const mine = (this.listing = new AbortController());
    try {
      const cursor = more && this.cursor ? { cursor: this.cursor } : {};
      const page = await fetchConversations({ q: words.trim(), limit: 50, ...cursor }, mine.signal);
      this.list = more ? [...this.list, ...page.conversations] : page.conversations;
      this.cursor = page.next_cursor ?? null;
      this.notice = page.notice?.message ?? '';
      this.listProblem = '';
    } catch (error) {
      if (!isAbort(error)) this.listProblem = said(error);
    }
  }

  /** Shows a conversation, or an empty one. */
  async open(id: string | null): Promise<void> {
    if (this.id === id && (id === null || this.conversation)) return;
    this.id = id;
    this.problem = '';
    this.conversation = null;
    this.messages = [];
    this.head = null;
    if (id) await this.reload(id);
  }

  private async reload(id: string): Promise<void> {
    this.loading = true;
    try {
      const detail = await fetchConversation(id);
      if (this.id !== id) return;
      this.conversation = detail.conversation;
      this.messages = detail.messages.filter((message) => message.id !== this.running.get(id)?.id);
      this.head = this.running.get(id)?.parent ?? detail.conversation.head ?? null;
    } catch (error) {
      if (this.id === id) this.problem = said(error);
    } finally {
      if (this.id === id) this.loading = false;
    }
  }

  /** The next new conversation is with this model. */
  prefer(model: string): void {
    remembered.set('model', model);
    this.fresh = { ...this.fresh, model };
  }

  /** Changes the conversation that is shown, or what the next one begins with. */
  async change(patch: Partial<Options> & { title?: string }): Promise<void> {
    if (patch.model !== undefined) remembered.set('model', patch.model);
    if (!this.conversation) {
      this.fresh = { ...this.fresh, ...patch };
      return;
    }
    this.noted(await changeConversation(this.conversation.id, patch));
  }

  /** A conversation is known anew. */
  noted(conversation: Conversation): void {
    if (this.id === conversation.id) this.conversation = conversation;
    const rest = this.list.filter((known) => known.id !== conversation.id);
    const known = rest.length < this.list.length;
    this.list = known
      ? this.list.map((old) => (old.id === conversation.id ? { ...conversation, found: old.found ?? null } : old))
      : [conversation, ...rest];
  }

  /** Shows the branch with this alternative. */
  async choose(id: string): Promise<void> {
    this.head = tip(this.messages, id);
    if (this.conversation) this.noted(await changeConversation(this.conversation.id, { head: this.head }));
  }

  /** Says something, or asks again. `draft` is kept until the server has what was said. */
  async say(turn: Partial<ChatTurn>, draft?: string): Promise<void> {
    let key = this.key;
    if (this.running.has(key)) return;
    const running = new Running();
    running.said = typeof turn.message === 'string' ? turn.message : '';
    this.running.set(key, running);
    this.problem = '';
    const asked = turn.parent === 'root' ? null : turn.parent;
    if (asked !== undefined) this.head = asked ?? null;
    try {
      const whole = await this.whole(turn);
      for await (const event of say(whole, running.stop.signal)) {
        if (event.type === 'start') {
          // What was typed since it was sent stays.
          const typed = drafts.get(key);
          if (draft !== undefined) drafts.set(key, '');
          const old = key;
          key = this.begun(key, running, event.message_id, event.user_message ?? null, event.conversation ?? null, whole);
          if (draft !== undefined && typed !== draft) drafts.set(key, typed);
          else if (key !== old) drafts.set(key, '');
        } else if (event.type === 'delta') running.take(event.content, event.reasoning);
        else if (event.type === 'trimmed') running.leftOut = event.left_out_turns;
        else if (event.type === 'done') {
          if (event.conversation) this.noted(event.conversation);
          this.ended(key, event.message);
        } else if (event.type === 'error') {
          this.ended(key, event.message);
          if (this.key === key) this.problem = event.error.message;
        }
      }
    } catch (error) {
      if (isAbort(error)) this.ended(key, this.partial(running, 'cancelled'));
      else {
        if (running.id) this.ended(key, this.partial(running, 'failed'));
        if (this.key === key) this.problem = said(error);
      }
    } finally {
      this.running.delete(key);
      if (this.key === key && !running.id && this.conversation) this.head = this.conversation.head ?? this.head;
    }
  }

  stop(): void {
    this.current?.stop.abort();
  }

  /** What is sent: in a new conversation, with all that it is to begin with. */
  private async whole(turn: Partial<ChatTurn>): Promise<Partial<ChatTurn>> {
    if (this.id) return { ...turn, conversation_id: this.id };
    const { model, system_prompt, sampling } = this.fresh;
    const named = { ...(model ? { model } : {}), ...(system_prompt.trim() ? { system_prompt } : {}) };
    if (Object.keys(sampling).length === 0) return { ...turn, ...named };
    const made = await newConversation({ ...named, sampling });
    return { ...turn, conversation_id: made.id };
  }

  private begun(
    key: string, running: Running, id: string, user: Message | null, conversation: Conversation | null,
    turn: Partial<ChatTurn>,
  ): string {
    running.id = id;
    running.said = '';
    running.parent = user?.id ?? turn.parent ?? this.head;
    const shown = this.key === key;
    const next = conversation?.id ?? key;
    if (next !== key) {
      this.running.set(next, running);
      this.running.delete(key);
      if (shown) {
        this.id = next;
        this.fresh = { ...this.fresh, system_prompt: '', sampling: {} };
      }
    }
    if (conversation) this.noted(conversation);
    if (shown) {
      if (conversation) this.conversation = conversation;
      if (user) this.messages = [...this.messages, user];
      this.head = running.parent;
    }
    return next;
  }

  private ended(key: string, message: Message): void {
    if (this.key === key && message.id) {
      this.messages = [...this.messages.filter((known) => known.id !== message.id), message];
      this.head = message.id;
    }
    this.running.delete(key);
  }

  private partial(running: Running, state: 'cancelled' | 'failed'): Message {
    running.flush();
    return {
      id: running.id,
      parent: running.parent,
      role: 'assistant',
      content: running.text.after(0),
      reasoning: running.reasoning || null,
      state,
      left_out_turns: running.leftOut,
      created_at: Date.now(),
    } as Message;
  }
}

export const chat = new Chat();
