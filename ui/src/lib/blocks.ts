// Cuts a growing Markdown text into blocks, so that a streamed answer draws only what is new.
//
// A block is settled once another one has begun after it: its text will not change any more, and is not read again. Of a
// block of code that grows, only its growth is read.

import { Lexer } from 'marked';

import { Fence } from './fence';

export interface Block {
  /** Its text; empty for code that is read as it grows. */
  raw: string;
  fence: Fence | null;
}

export class Blocks {
  /** Without those that are empty. */
  private settled: Block[] = [];
  /** What is not settled yet. */
  private tail = '';
  /** The code that the text ends with so far. */
  private open: Block | null = null;

  /** Goes on with `more`. */
  append(more: string): void {
    this.tail += more;
    for (;;) {
      if (!this.open) {
        const opened = Fence.open(this.tail);
        if (!opened) {
          if (this.settle()) continue;
          return;
        }
        this.open = { raw: '', fence: opened.fence };
        this.tail = opened.rest;
      }
      const rest = this.open.fence!.push(this.tail);
      this.tail = rest ?? '';
      if (rest === null) return;
      this.settled.push(this.open);
      this.open = null;
    }
  }

  /** The text has ended. */
  end(): void {
    this.open?.fence?.end();
  }

  /** The blocks so far: ones that are settled stay the same objects, and so does code. */
  get blocks(): Block[] {
    const last = this.open ?? { raw: this.tail, fence: null };
    return last.fence || last.raw.trim() !== '' ? [...this.settled, last] : [...this.settled];
  }

  /** Settles all blocks of the tail but the last. Whether code begins then. */
  private settle(): boolean {
    const raws = cut(this.tail);
    // A list and what is empty after it may yet turn out to be one.
    let last = raws.length - 1;
    while (last > 0 && raws[last]!.trim() === '') last -= 1;
    if (last <= 0) return false;
    for (const raw of raws.slice(0, last)) {
      if (raw.trim() !== '') this.settled.push({ raw, fence: null });
    }
    this.tail = raws.slice(last).join('');
    return Fence.open(this.tail) !== null;
  }
}

/** The text of each block; together they are the whole text. */
function cut(text: string): string[] {
  const lexer = new Lexer();
  // The block lexer alone: what is inside a block is read when the block is drawn.
  const tokens = lexer.blockTokens(text, []);
  const raws = tokens.map((token) => token.raw);
  const length = raws.reduce((sum, raw) => sum + raw.length, 0);
  // The lexer turns tabs and line ends into its own; where its pieces do not add up, the text is one block.
  return length === text.length ? raws : [text];
}
