// A text that grows, kept in the pieces that it came in: to put them together for each of them would take longer and longer.

export class Growing {
  private pieces: string[] = [];
  /** Letters so far. */
  length = $state(0);

  append(text: string): void {
    if (text === '') return;
    this.pieces.push(text);
    this.length += text.length;
  }

  /** Pieces so far. */
  get count(): number {
    return this.pieces.length;
  }

  /** What came after the first `count` pieces. */
  after(count: number): string {
    return this.pieces.slice(count).join('');
  }
}
