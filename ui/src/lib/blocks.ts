// Cuts a growing Markdown text into blocks, so that a streamed answer draws only what is new.
//
// A block is settled once another one has begun after it: its text will not change any more, and is not read again.

import { Lexer } from 'marked';

export class Blocks {
  private text = '';
  private settled: string[] = [];
  /** Where the part begins that is not settled yet. */
  private from = 0;

  /** The blocks of `text`. Ones before `stable` are the same as the last time. */
  update(text: string): { blocks: string[]; stable: number } {
    if (!text.startsWith(this.text.slice(0, this.from)) || text.length < this.from) {
      this.settled = [];
      this.from = 0;
    }
    this.text = text;
    const stable = this.settled.length;
    const tail = text.slice(this.from);
    const raws = cut(tail);
    // A list and what is empty after it may yet turn out to be one.
    let open = raws.length - 1;
    while (open > 0 && raws[open]!.trim() === '') open -= 1;
    for (const raw of raws.slice(0, Math.max(0, open))) {
      this.settled.push(raw);
      this.from += raw.length;
    }
    return { blocks: [...this.settled, ...raws.slice(Math.max(0, open))].filter((raw) => raw.trim() !== ''), stable: this.visible(stable) };
  }

  private visible(count: number): number {
    return this.settled.slice(0, count).filter((raw) => raw.trim() !== '').length;
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
