// A conversation is a tree of messages; what is shown is one branch of it.

export interface Node {
  id: string;
  parent?: string | null | undefined;
}

export interface Step<T> {
  message: T;
  /** Alternatives to it, itself included, oldest first. */
  siblings: T[];
  /** Its place among them. */
  position: number;
}

/** The branch that ends in `head`, from the first message on. */
export function branch<T extends Node>(messages: T[], head: string | null | undefined): Step<T>[] {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const children = new Map<string | null, T[]>();
  for (const message of messages) {
    const parent = message.parent ?? null;
    const list = children.get(parent);
    if (list) list.push(message);
    else children.set(parent, [message]);
  }
  const steps: Step<T>[] = [];
  const seen = new Set<string>();
  let at = head ? byId.get(head) : messages[messages.length - 1];
  while (at && !seen.has(at.id)) {
    seen.add(at.id);
    const message = at;
    const siblings = children.get(message.parent ?? null) ?? [message];
    steps.push({ message, siblings, position: siblings.indexOf(message) });
    at = message.parent ? byId.get(message.parent) : undefined;
  }
  return steps.reverse();
}

/** The end of the branch to show when `id` is chosen: its newest descendant. */
export function tip<T extends Node>(messages: T[], id: string): string {
  let end = id;
  for (;;) {
    const next = messages.filter((message) => message.parent === end).pop();
    if (!next || next.id === end) return end;
    end = next.id;
  }
}
