// Growing texts and the code in them, against what the Markdown lexer says of the whole.

import { Lexer, type Tokens } from 'marked';
import { describe, expect, it } from 'vitest';

import { Blocks, type Block } from './blocks';
import { Fence } from './fence';

/** What blocks hold after `pieces`; code as it is shown. */
function read(pieces: string[]): string[] {
  const growing = new Blocks();
  for (const piece of pieces) growing.append(piece);
  growing.end();
  return growing.blocks.map(({ raw, fence }) => (fence ? fence.take() : raw.trim()));
}

describe('blocks of a growing text', () => {
  const text = [
    '# Title', '', 'A paragraph', 'of two lines.', '', '- one', '- two', '', '  more of two', '', '- three', '',
    '```python', 'def f():', '', '    return 1', '```', '', '| a | b |', '| - | - |', '| 1 | 2 |', '', 'The end.',
  ].join('\n');

  it('end as the blocks of the whole text', () => {
    const blocks = read([...text]);
    const tokens = new Lexer().blockTokens(text, []).filter(({ raw }) => raw.trim() !== '');
    expect(blocks).toEqual(tokens.map((token) => (token.type === 'code' ? (token as Tokens.Code).text : token.raw.trim())));
    expect(blocks).toHaveLength(6);
  });

  it('never change once another one has begun', () => {
    const growing = new Blocks();
    let before: Block[] = [];
    for (const letter of text) {
      growing.append(letter);
      const { blocks } = growing;
      for (const [at, block] of before.slice(0, -1).entries()) expect(blocks[at]?.raw).toBe(block.raw);
      for (const block of before.filter(({ fence }) => fence)) expect(blocks).toContain(block);
      before = blocks;
    }
  });

  it('are cheap to keep up to date, however long the text or its last block of code', () => {
    for (const long of ['A sentence of some words that goes on.\n\n'.repeat(3000), `\`\`\`ts\n${'const value = call(1, 2, 3);\n'.repeat(20_000)}`]) {
      const growing = new Blocks();
      growing.append(long);
      const begun = performance.now();
      for (let n = 0; n < 60; n += 1) growing.append('word ');
      // A second has sixty frames; all of them together must leave nearly all of it free.
      expect(performance.now() - begun).toBeLessThan(250);
    }
  });
});

describe('a block of code that grows', () => {
  const TEXTS = [
    '```ts\nconst a = `1`;\n\n  `b`\n```\n\nafter', '```\n```\nafter', '```\n\n```\n', '```py\na\n\n\n```\n', '~~~\n```\n~~~~  \nafter',
    '````md\n```\nin\n```\n````\nafter', '```\na\n   ```\nb\n', '```\na\n    ```\n``\n~~~\n', '```a b{c}\nx', '```\nx\n```y\n``` \n', '```\r\na\r\n\r\nb\r\n```\r\nafter',
    '```\nx\n``', '```\nx\n```', '```\n', '```\nx\n\n', '~~~ `\nx',
  ];
  /** What the page shows of the lexer's text, which has an empty last line twice. */
  const expected = (text: string) => (new Lexer().lex(text)[0] as Tokens.Code).text.replace(/\n$/, '');

  function grown(text: string, step: number): string[] {
    const blocks = new Blocks();
    const shown = [''];
    const look = () => shown.push(shown.at(-1)! + (blocks.blocks[0]?.fence?.take() ?? ''));
    for (let at = 0; at < text.length; at += step) {
      blocks.append(text.slice(at, at + step));
      look();
    }
    blocks.end();
    look();
    return shown;
  }

  it('is the text that the lexer finds, however it arrives', () => {
    for (const text of TEXTS) {
      for (const step of [1, 2, 3, 7, 100]) expect(grown(text, step).at(-1), JSON.stringify(text)).toBe(expected(text));
    }
  });

  it('never shows what it takes back', () => {
    for (const text of TEXTS) {
      for (const shown of grown(text, 1)) expect(expected(text).startsWith(shown), JSON.stringify([text, shown])).toBe(true);
    }
  });

  it('is no code before its first line is whole, nor where that line holds its own fence', () => {
    expect(Fence.open('```ts')).toBeNull();
    expect(Fence.open('``` a ` b\nx')).toBeNull();
    expect(Fence.open('``\nx')).toBeNull();
    expect(Fence.open('```TS {1}\n')?.fence.language).toBe('ts');
  });
});
