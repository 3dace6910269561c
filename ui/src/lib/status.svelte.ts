// What the server is doing: one stream of events for all pages, the last minutes of it, and the recent requests.
//
// While the page is hidden nothing is asked. A lost server is looked for again and again, at a growing distance.

import { fetchRequests } from './api';
import { ApiError, events, isAbort } from './http';
import { Series } from './series';
import type { RequestRecord, ServerState, Status } from './types';

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 5000;

class Live {
  status = $state.raw<Status | null>(null);
  requests = $state.raw<RequestRecord[]>([]);
  /** Events arrive. */
  connected = $state(false);
  /** Why they do not, once that has lasted a moment. */
  lost = $state<string | null>(null);
  /** Present in the app, where the server can be started and stopped. */
  control = $state.raw<ServerState | null>(null);
  /** Counts up with every sample. */
  tick = $state(0);
  readonly series = new Series();

  private stream: AbortController | null = null;
  private ended = -1;
  private wake: (() => void) | null = null;
  private fetching = false;

  /** Keeps up to date for as long as the page lives. */
  start(): void {
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) this.stream?.abort();
      else this.retry();
    });
    void this.run();
  }

  /** Tries again now. */
  retry(): void {
    this.wake?.();
  }

  private async run(): Promise<void> {
    let pause = FIRST_PAUSE;
    let failures = 0;
    for (;;) {
      if (document.hidden) {
        await this.sleep(null);
        continue;
      }
      this.stream = new AbortController();
      try {
        for await (const event of events('/api/events', { signal: this.stream.signal })) {
          if (event.name === 'server') this.control = JSON.parse(event.data) as ServerState;
          if (event.name !== 'status') continue;
          this.connected = true;
          this.lost = null;
          failures = 0;
          pause = FIRST_PAUSE;
          this.take(JSON.parse(event.data) as Status);
        }
        this.connected = false;
      } catch (error) {
        this.connected = false;
        if (isAbort(error)) continue;
        if (error instanceof ApiError && !error.offline && error.status !== 404) this.lost = error.message;
      }
      failures += 1;
      // One break is what a restart looks like; only a second one is worth a word.
      if (failures > 1) {
        this.lost ??= 'Perch does not answer. This page reconnects by itself.';
      }
      await this.sleep(pause);
      pause = Math.min(pause * 1.6, LONGEST_PAUSE);
    }
  }

  private sleep(ms: number | null): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === null ? undefined : setTimeout(done, ms);
      const self = this;
      function done(): void {
        clearTimeout(timer);
        self.wake = null;
        resolve();
      }
      this.wake = done;
    });
  }

  private take(status: Status): void {
    this.status = status;
    const { completed, failed, cancelled } = status.requests;
    const ended = completed + failed + cancelled;
    if (ended !== this.ended) {
      this.ended = ended;
      void this.refreshRequests();
    }
    this.sample(status, null);
  }

  private sample(status: Status, firstToken: number | null): void {
    this.series.add(Date.now(), {
      decode: status.rates.decode,
      prefill: status.rates.prefill,
      active: status.requests.active,
      firstToken,
      memory: status.resources?.memory_bytes ?? 0,
      cpu: status.resources?.cpu_percent ?? 0,
    });
    this.tick += 1;
  }

  async refreshRequests(): Promise<void> {
    if (this.fetching) return;
    this.fetching = true;
    try {
      const known = new Set(this.requests.map((request) => request.id));
      const first = this.requests.length === 0;
      this.requests = await fetchRequests();
      const fresh = first ? [] : this.requests.filter((request) => !known.has(request.id));
      const newest = fresh.find((request) => request.first_token_ms !== null && request.first_token_ms !== undefined);
      if (newest && this.status) this.sample(this.status, newest.first_token_ms ?? null);
    } catch {
      // The stream of events says so if the server is gone.
    } finally {
      this.fetching = false;
    }
  }
}

export const live = new Live();
