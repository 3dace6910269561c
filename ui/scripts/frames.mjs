// How smoothly the chat page draws an answer of some 2,000 tokens as it streams in: the times between its frames.
//
//   node scripts/frames.mjs [TOKENS PER SECOND]      needs `perch`, as the tests do
//
// The page is the real one from a real server. The answer comes from here, token by token at an even pace, so that what is
// measured is the page and not a model: a text with all of Markdown, one long block of code, and one long table.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { openBrowser, openPage } from '../e2e/browser.mjs';
import { door } from '../e2e/door.mjs';
import { start } from '../e2e/server.mjs';

const TOKENS = 2000;
const pace = Number(process.argv[2] ?? 100);

/** Pieces of about four characters, as tokens are. */
const tokens = (text) => text.match(/\s*[^\s]{1,5}|\s+/g).slice(0, TOKENS);

const docs = ['configuration.md', 'architecture.md', 'api.md'];
const mixed = docs.map((name) => readFileSync(join(import.meta.dirname, '../../docs', name), 'utf8').slice(0, 6000)).join('\n\n');
const code = Array.from({ length: 400 }, (_, n) => `export function step${n}(value: number): string {\n  return \`\${value * ${n}} of "${n}"\`; // ${n}\n}\n`);
const table = Array.from({ length: 400 }, (_, n) => `| row ${n} | **${n * 7}** | \`value ${n}\` | some words |`);
const ANSWERS = {
  'all of Markdown': mixed,
  'one block of code': `\`\`\`ts\n${code.join('\n')}`,
  'one table': `| a | b | c | d |\n|---|---|---|---|\n${table.join('\n')}`,
};

const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)];

const server = await start({ models: ['tiny'] });
const browser = await openBrowser();
for (const [name, text] of Object.entries(ANSWERS)) {
  const pieces = tokens(text);
  const through = await door(server, pieces, pace);
  const open = await openPage(browser, through.url, { path: 'chat', reducedMotion: 'no-preference' });
  const { page } = open;
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
  await page.evaluate(() => (window.frames_.length = 0));
  await page.getByRole('button', { name: 'Stop' }).waitFor({ state: 'detached', timeout: 120_000 });
  await page.waitForTimeout(300);
  const frames = (await page.evaluate(() => window.frames_)).sort((a, b) => a - b);
  const figures = [at(frames, 0.5), at(frames, 0.95), at(frames, 0.99), frames.at(-1)].map((ms) => `${ms.toFixed(1)} ms`);
  const slow = frames.filter((ms) => ms > 50).length;
  console.log(`${name}: ${pieces.length} tokens at ${pace}/s, ${frames.length} frames; p50, p95, p99, worst: ${figures.join(', ')}; over 50 ms: ${slow}`);
  await open.close();
  through.close();
}
await browser.close();
await server.end();
process.exit(0);
