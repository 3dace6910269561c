// Short notes at the edge of the window. Errors stay until they are closed.

import { said } from './http';

export interface Toast {
  id: number;
  kind: 'info' | 'error';
  text: string;
}

let next = 1;
let list = $state<Toast[]>([]);

export const toasts = {
  get list(): Toast[] {
    return list;
  },
  close(id: number): void {
    list = list.filter((toast) => toast.id !== id);
  },
  info(text: string): void {
    const id = add('info', text);
    setTimeout(() => this.close(id), 4000);
  },
  error(error: unknown): void {
    add('error', said(error));
  },
};

function add(kind: Toast['kind'], text: string): number {
  const same = list.find((toast) => toast.kind === kind && toast.text === text);
  if (same) return same.id;
  const id = next++;
  list = [...list.slice(-3), { id, kind, text }];
  return id;
}

/** Runs `work`; what fails is shown. Whether it succeeded. */
export async function attempt(work: () => Promise<unknown>, done?: string): Promise<boolean> {
  try {
    await work();
    if (done) toasts.info(done);
    return true;
  } catch (error) {
    toasts.error(error);
    return false;
  }
}
