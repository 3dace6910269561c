// How smoothly the chat page draws an answer of some 2,000 tokens as it streams in: the times between its frames, and the
// processor time of the page for each, which depends less on what else the machine does.
//
//   node scripts/frames.mjs [TOKENS PER SECOND [PART OF A NAME]]      needs `perch`, as the tests do
//
// The page is the real one from a real server. The answer comes from here, token by token at an even pace, so that what is
// measured is the page and not a model: a text with all of Markdown, one long block of code, the end of a very long one, and one
// long table.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { openBrowser, openPage } from '../e2e/browser.mjs';
import { door } from '../e2e/door.mjs';
import { start } from '../e2e/server.mjs';

const TOKENS = 2000;
const pace = Number(process.argv[2] ?? 100);
const wanted = process.argv[3] ?? '';

/** Pieces of about four characters, as tokens are. */
const tokens = (text) => text.match(/\s*[^\s]{1,5}|\s+/g).slice(0, TOKENS);

const docs = ['configuration.md', 'architecture.md', 'api.md'];
const mixed = docs.map((name) => readFileSync(join(import.meta.dirname, '../../docs', name), 'utf8').slice(0, 6000)).join('\n\n');
const code = Array.from({ length: 400 }, (_, n) => `export function step${n}(value: number): string {\n  return \`\${value * ${n}} of "${n}"\`; // ${n}\n}\n`);
const lines = Array.from({ length: 5000 }, (_, n) => `const value${n}: string = \`\${scale(${n})} of "${n}"\`; // ${n}\n`).join('');
const table = Array.from({ length: 400 }, (_, n) => `| row ${n} | **${n * 7}** | \`value ${n}\` | some words |`);
/** What streams in, and what is there before the measuring begins. */
const ANSWERS = {
  'all of Markdown': [mixed],
  'one block of code': [`\`\`\`ts\n${code.join('\n')}`],
  'the end of a block of 5,000 lines': [code.join('\n'), `\`\`\`ts\n${lines}`],
  'one table': [`| a | b | c | d |\n|---|---|---|---|\n${table.join('\n')}`],
};

const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)];

const server = await start({ models: ['tiny'] });
const browser = await openBrowser();
for (const [name, [text, before = '']] of Object.entries(ANSWERS)) {
  if (!name.includes(wanted)) continue;
  const pieces = tokens(text);
  const through = await door(server, [before, ...pieces], pace);
  const open = await openPage(browser, through.url, { path: 'chat', reducedMotion: 'no-preference' });
  const { page } = open;
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable', { timeDomain: 'threadTicks' });
  /** Processor time of the page's main thread so far, in seconds; other programs do not count. */
  const work = async () => (await session.send('Performance.getMetrics')).metrics.find(({ name }) => name === 'TaskDuration').value;
  const message = page.getByRole('textbox', { name: 'Message' });
  await message.fill('go');
  await page.evaluate(() => {
    window.frames_ = [];
    let last = performance.now();
    const next = (now) => {
      window.frames_.push(now - last);
      last = now;
      requestAnimationFrame(next);
    };
    requestAnimationFrame(next);
  });
  await message.press('Enter');
  await page.getByRole('button', { name: 'Stop' }).waitFor();
  await page.waitForFunction((length) => (document.querySelector('.prose')?.textContent.length ?? 0) > length, before.length * 0.9);
  // What was there is drawn and coloured first.
  if (before) await page.waitForTimeout(5000);
  await page.evaluate(() => (window.frames_.length = 0));
  const begun = await work();
  await page.getByRole('button', { name: 'Stop' }).waitFor({ state: 'detached', timeout: 120_000 });
  await page.waitForTimeout(300);
  const spent = (await work()) - begun;
  const frames = (await page.evaluate(() => window.frames_)).sort((a, b) => a - b);
  const figures = [at(frames, 0.5), at(frames, 0.95), at(frames, 0.99), frames.at(-1)].map((ms) => `${ms.toFixed(1)} ms`);
  const slow = frames.filter((ms) => ms > 50).length;
  console.log(`${name}: ${pieces.length} tokens at ${pace}/s, ${frames.length} frames; p50, p95, p99, worst: ${figures.join(', ')}; over 50 ms: ${slow}; processor: ${((spent * 1000) / frames.length).toFixed(1)} ms a frame`);
  await open.close();
  through.close();
}
await browser.close();
await server.end();
process.exit(0);
