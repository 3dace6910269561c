// Downloads as they go, for every page that shows one.

import { watchDownloads } from './api';
import { isAbort } from './http';
import type { Download } from './types';

class Downloads {
  list = $state.raw<Download[]>([]);
  /** Counts up whenever one has been completed. */
  completed = $state(0);
  private running: AbortController | null = null;
  private watchers = 0;

  /** Watches until the function that comes back is called. */
  watch(): () => void {
    this.watchers += 1;
    if (this.watchers === 1) void this.run();
    return () => {
      this.watchers -= 1;
      if (this.watchers === 0) this.running?.abort();
    };
  }

  get unfinished(): Download[] {
    return this.list.filter((download) => download.state !== 'completed');
  }

  /** The unfinished download of a model, or of any variant of a repository. */
  of(model: string): Download | undefined {
    return this.unfinished.find((download) => download.model === model || download.repo === model);
  }

  private async run(): Promise<void> {
    while (this.watchers > 0) {
      const stream = new AbortController();
      this.running = stream;
      try {
        for await (const { downloads } of watchDownloads(stream.signal)) {
          const before = this.list.filter((download) => download.state === 'completed').length;
          const first = this.list.length === 0;
          this.list = downloads;
          const now = downloads.filter((download) => download.state === 'completed').length;
          if (!first && now > before) this.completed += 1;
        }
      } catch (error) {
        if (isAbort(error)) return;
      }
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

export const downloads = new Downloads();
