// A fenced block of code that grows. What was read is not read again, nor kept.
//
// It says of its text what the Markdown lexer says of the whole block; a test compares the two.

/** Only at the beginning of a line: the lexer takes the indentation of a fence from the lines after it. */
const OPENED = /^(`{3,}(?=[^`\n]*\n)|~{3,})([^\n]*)\n/;

export class Fence {
  readonly language: string;
  /** No more comes. */
  ended = false;
  private readonly closes: RegExp;
  private readonly mayClose: RegExp;
  /** What is not code yet: the end of a line, and a line after it that may yet close the block. */
  private held = '';
  /** Whether what was held back, and what comes, goes on with a line that is code. */
  private within = false;
  private code: string[] = [];

  /** The block that `text` begins with, once its first line is whole. */
  static open(text: string): { fence: Fence; rest: string } | null {
    const opened = OPENED.exec(text);
    return opened && { fence: new Fence(opened[1]!, opened[2]!), rest: text.slice(opened[0].length) };
  }

  private constructor(fence: string, info: string) {
    const char = fence[0]!;
    this.language = languageOf(info);
    this.closes = new RegExp(`^ {0,3}${fence}${char}* *\\r?$`);
    this.mayClose = new RegExp(`^ {0,3}(?:${char}{0,${fence.length - 1}}|${fence}${char}* *\\r?)$`);
  }

  /** Goes on with `more`. What comes after the block, once a line has closed it. */
  push(more: string): string | null {
    const text = this.held + more;
    // Where the line ends that was last found to be code; the next one begins after it.
    let at = this.within ? text.indexOf('\n') : 0;
    if (at < 0) return this.give(text, '');
    for (;;) {
      const begin = text[at] === '\n' ? at + 1 : at;
      const end = text.indexOf('\n', begin);
      if (end < 0) {
        this.within = !this.mayClose.test(text.slice(begin));
        return this.within ? this.give(text, '') : this.give(text.slice(0, at), text.slice(at));
      }
      if (this.closes.test(text.slice(begin, end))) {
        this.give(text.slice(0, at), '');
        this.end();
        return text.slice(end + 1);
      }
      at = end;
    }
  }

  /** The text has ended: what may have closed the block did, or is code. */
  end(): void {
    if (this.ended) return;
    this.ended = true;
    const last = this.held.replace(/^\r?\n/, '');
    if (last !== '' && last !== '\r' && !this.closes.test(last)) this.code.push(this.held.replace(/\r\n?/g, '\n'));
    this.held = '';
  }

  /** The code that was not taken yet. */
  take(): string {
    const taken = this.code.join('');
    this.code = [];
    return taken;
  }

  private give(code: string, held: string): null {
    // It may be half the end of a line.
    const half = code.endsWith('\r');
    this.held = half ? `\r${held}` : held;
    this.within ||= half;
    this.code.push((half ? code.slice(0, -1) : code).replace(/\r\n?/g, '\n'));
    return null;
  }
}

/** The language that the first line of a block of code names. */
export function languageOf(info: string): string {
  return info.trim().split(/[\s{,:]/)[0]!.toLowerCase();
}
