// Server-sent events out of a byte stream: `EventSource` can neither send a key nor a body.

export interface ServerEvent {
  name: string;
  data: string;
  id: string;
}

/** Takes in text as it arrives, and gives back the events that are whole. */
export class EventParser {
  private rest = '';

  push(text: string): ServerEvent[] {
    const lines = (this.rest + text).split(/\r\n|\n|\r/);
    // A lone \r at the end may be half of \r\n; it stays with the rest.
    this.rest = '';
    const events: ServerEvent[] = [];
    let block: string[] = [];
    const whole = lines.slice(0, -1);
    for (const line of whole) {
      if (line !== '') {
        block.push(line);
        continue;
      }
      const event = read(block);
      if (event) events.push(event);
      block = [];
    }
    this.rest = [...block, lines[lines.length - 1] ?? ''].join('\n');
    return events;
  }
}

function read(lines: string[]): ServerEvent | null {
  const event: ServerEvent = { name: 'message', data: '', id: '' };
  const data: string[] = [];
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon === 0) continue;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') data.push(value);
    else if (field === 'event') event.name = value;
    else if (field === 'id') event.id = value;
  }
  if (data.length === 0) return null;
  event.data = data.join('\n');
  return event;
}
