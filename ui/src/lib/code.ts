// A block of code on the page: its head, and its text, which may grow.
//
// What one more token costs does not depend on how long the block is. The text stands in elements of some lines each, so
// that a change lays out few lines. It is coloured in stretches that end where no string or comment is open; a stretch that
// ended is not touched again. Where stretches end depends on the text alone, not on how it arrived.

import { highlight, known } from './highlight';

/** A part is full at the end of a line with this many lines or letters. */
const LINES = 16;
const LETTERS = 2000;
/** So many parts stand in an element of their own. */
const TOGETHER = 32;
/** A stretch that grows is coloured with each line that ends, up to this many letters; then each time it has doubled. */
const LIVE = 4000;
/** A stretch that finds no end within this many letters is not coloured, nor is what comes after it. */
const LONGEST = 30_000;
/** Nor is what comes after this many letters. */
const MOST = 500_000;
/** Letters that are coloured at once when a block appears, and in each go after that. */
const AT_ONCE = 12_000;
const AT_A_GO = 3000;
/** Time until the first go. A block that is drawn anew soon is not worth one. */
const SOON_MS = 250;

export class Code {
  readonly element: HTMLElement;
  private readonly code = document.createElement('code');
  private readonly language: string;
  private coloured: boolean;
  private ended = false;
  /** The last text, at which the code grows; and how full its part is. */
  private tail: Text | null = null;
  private group: HTMLElement | null = null;
  private grouped = 0;
  private lines = 0;
  private letters = 0;
  /** The text of the stretch, with the ends of its full parts, of its full lines, and of what of it is coloured. */
  private stretch = '';
  private parts: number[] = [];
  private full = 0;
  private done = 0;
  /** The elements that hold the stretch, and where each begins. */
  private holders: { element: HTMLElement; from: number }[] = [];
  /** Parts to have before an end is looked for. */
  private need = 1;
  private budget = AT_ONCE;
  private total = 0;
  private timer = 0;
  private wait = SOON_MS;

  constructor(language: string) {
    this.language = language;
    this.coloured = known(language);
    this.code.className = 'hljs';
    const pre = document.createElement('pre');
    pre.append(this.code);
    this.element = framed(pre, language);
  }

  /** Writes on. */
  write(text: string): void {
    if (text === '') return;
    for (let from = 0; from < text.length; ) {
      const to = this.room(text, from);
      this.append(text.slice(from, to));
      from = to;
    }
    this.go();
  }

  /** Nothing more will be written. */
  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.go();
  }

  /** How far the text from `from` on goes into the last part. */
  private room(text: string, from: number): number {
    let to = from;
    while (to < text.length) {
      const end = text.indexOf('\n', to);
      if (end < 0) break;
      to = end + 1;
      this.lines += 1;
      if (this.lines >= LINES || this.letters + to - from >= LETTERS) {
        this.lines = LINES;
        return to;
      }
    }
    return text.length;
  }

  private append(text: string): void {
    if (!this.tail) {
      if (!this.group || this.grouped % TOGETHER === 0) this.code.append((this.group = part()));
      this.grouped += 1;
      const element = part();
      this.tail = document.createTextNode('');
      element.append(this.tail);
      this.group.append(element);
      if (this.coloured) this.holders.push({ element, from: this.stretch.length });
    }
    this.tail.appendData(text);
    this.letters += text.length;
    if (this.coloured) {
      const line = text.lastIndexOf('\n');
      if (line >= 0) this.full = this.stretch.length + line + 1;
      this.stretch += text;
    }
    if (this.lines < LINES) return;
    if (this.coloured) this.parts.push(this.stretch.length);
    this.tail = null;
    this.lines = 0;
    this.letters = 0;
  }

  /** Colours what can be, within what may be spent on it now. */
  private go(): void {
    clearTimeout(this.timer);
    while (this.coloured && this.parts.length >= this.need) {
      if (this.budget <= 0) return this.later();
      const end = this.parts[this.need - 1]!;
      if (end > LONGEST || this.total > MOST) return this.stop();
      this.budget -= end;
      if (this.show(end)) this.cut(end);
      else this.need *= 2;
    }
    if (this.coloured) {
      const end = this.ended ? this.stretch.length : this.full;
      if (end > this.done && end <= (this.ended ? LONGEST : LIVE)) this.show(end);
    }
    this.budget = AT_A_GO;
    if (this.ended) this.stop();
  }

  private later(): void {
    this.budget = AT_A_GO;
    this.timer = window.setTimeout(() => {
      this.wait = 0;
      if (this.code.isConnected) this.go();
    }, this.wait);
  }

  /** Colours the stretch up to `end`. Whether it may end there. */
  private show(end: number): boolean {
    const { nodes, whole } = highlight(this.stretch.slice(0, end), this.language);
    const first = this.holders[0]!.element;
    first.replaceChildren(nodes);
    const rest = this.holders.filter(({ from }) => from >= end);
    for (const { element, from } of this.holders.slice(1)) if (from < end) element.remove();
    // What is not coloured yet of the last part stands behind what is.
    if (rest.length === 0 && this.tail) {
      this.tail = document.createTextNode(this.stretch.slice(end));
      first.append(this.tail);
    }
    this.holders = [this.holders[0]!, ...rest];
    this.done = end;
    return whole;
  }

  /** Ends the stretch. */
  private cut(end: number): void {
    this.stretch = this.stretch.slice(end);
    this.parts = this.parts.slice(this.need).map((at) => at - end);
    this.holders = this.holders.slice(1).map(({ element, from }) => ({ element, from: from - end }));
    this.full -= end;
    this.done = 0;
    this.need = 1;
    this.total += end;
  }

  private stop(): void {
    this.coloured = false;
    this.stretch = '';
    this.parts = [];
    this.holders = [];
  }
}

function part(): HTMLElement {
  const element = document.createElement('span');
  element.className = 'part';
  return element;
}

/** `pre` below a head with the language and a button that copies. */
export function framed(pre: HTMLPreElement, name: string): HTMLElement {
  const frame = document.createElement('div');
  frame.className = 'code-frame';
  const head = document.createElement('div');
  head.className = 'code-head';
  const language = document.createElement('span');
  language.textContent = name || 'text';
  const copy = document.createElement('button');
  copy.type = 'button';
  copy.textContent = 'Copy';
  copy.addEventListener('click', () => {
    navigator.clipboard.writeText(pre.textContent ?? '').then(
      () => (copy.textContent = 'Copied'),
      () => (copy.textContent = 'Copying failed'),
    );
    setTimeout(() => (copy.textContent = 'Copy'), 1500);
  });
  pre.tabIndex = 0;
  head.append(language, copy);
  frame.append(head, pre);
  return frame;
}
