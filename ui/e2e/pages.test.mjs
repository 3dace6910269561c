// Every page: without faults, in both colour schemes, in a narrow window, by keyboard alone.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { generate } from '../scripts/types.mjs';
import { accessible, openBrowser, openPage } from './browser.mjs';
import { makeHome, start } from './server.mjs';

const PAGES = ['overview', 'chat', 'models', 'models/discover', 'models/storage', 'connect', 'usage', 'logs', 'logs/log', 'settings'];

let server;
let browser;
before(async () => {
  server = await start({ models: ['tiny-one', 'tiny-two'] });
  browser = await openBrowser();
});
after(async () => {
  await browser?.close();
  await server?.end();
});

test('the types are those of the server', async () => {
  const written = readFileSync(join(import.meta.dirname, '../src/api/schema.d.ts'), 'utf8');
  const now = await generate(server);
  assert.ok(written === now, 'schema.d.ts is out of date; run `npm run types` in ui/');
});

test('the page is asked for anew, and its files are kept', async () => {
  const page = await fetch(server.url);
  const policy = page.headers.get('content-security-policy');
  assert.match(policy, /default-src 'none'/);
  assert.ok(!/unsafe|https?:|\*/.test(policy), policy);
  const again = await fetch(server.url, { headers: { 'if-none-match': page.headers.get('etag') } });
  assert.equal(again.status, 304);
  const html = await page.text();
  const assets = [...html.matchAll(/"(\/assets\/[^"]+)"/g)].map((match) => match[1]);
  assert.ok(assets.length >= 2, html);
  for (const path of assets) {
    const asset = await fetch(server.url + path);
    assert.equal(asset.status, 200, path);
    assert.match(asset.headers.get('cache-control'), /immutable/);
  }
  assert.equal((await fetch(`${server.url}/assets/other.js`)).status, 404);
});

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing to object to, ${colorScheme}`, async () => {
    const open = await openPage(browser, server.url, { colorScheme });
    for (const path of PAGES) {
      await open.go(path);
      await open.page.locator('h1').first().waitFor();
      await open.page.waitForTimeout(400);
      await accessible(open.page, `${path}, ${colorScheme}`);
    }
    await open.close();
  });
}

test('nothing is cut off in a narrow window', async () => {
  const open = await openPage(browser, server.url, { viewport: { width: 380, height: 700 } });
  for (const path of PAGES) {
    await open.go(path);
    await open.page.locator('h1').first().waitFor();
    await open.page.waitForTimeout(200);
    const over = await open.page.evaluate(() => {
      const page = document.querySelector('.page');
      return [document.documentElement.scrollWidth - innerWidth, page ? page.scrollWidth - page.clientWidth : 0];
    });
    assert.ok(Math.max(...over) <= 0, `${path} is wider than the window: ${over}`);
  }
  await open.close();
});

test('the keyboard reaches every page and goes back', async () => {
  const open = await openPage(browser, server.url);
  const { page } = open;
  await page.locator('h1').waitFor();
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to content');
  for (const title of ['Overview', 'Chat', 'Models', 'Connect', 'Usage', 'Requests & Logs', 'Settings']) {
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), title);
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(outline, 'none', `${title} shows no focus`);
  }
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Settings' }).waitFor();
  await page.goBack();
  await page.getByRole('heading', { name: 'Models in memory' }).waitFor();
  await open.close();
});

test('the overview shows a model as it is loaded, pinned and unloaded', async () => {
  const open = await openPage(browser, server.url);
  const { page } = open;
  await page.getByText('No model is in memory').waitFor();
  await server.call('/v1/chat/completions', { model: 'tiny-one', max_tokens: 8, messages: [{ role: 'user', content: 'hi' }] });
  await page.getByText('tiny-one').first().waitFor();
  await page.getByRole('cell', { name: 'tiny-one' }).waitFor();
  await page.getByRole('button', { name: 'Pin tiny-one' }).click();
  await page.getByRole('button', { name: 'Unpin tiny-one' }).click();
  await page.getByRole('button', { name: 'Unload tiny-one' }).click();
  await page.getByText('No model is in memory').waitFor();
  await page.locator('canvas').nth(4).waitFor();
  await open.close();
});

test('a lost server is said, and found again', async () => {
  const mine = await start({ models: [] });
  const port = Number(new URL(mine.url).port);
  const open = await openPage(browser, mine.url, { clean: false });
  await open.page.getByText('Ready').first().waitFor();
  await mine.stop();
  await open.page.getByText('This page reconnects by itself').waitFor();
  const again = await start({ home: mine.home, port });
  await open.page.getByText('This page reconnects by itself').waitFor({ state: 'detached' });
  await open.page.getByText('Ready').first().waitFor();
  await open.close();
  await again.end();
});

test('a page that is left alone asks for next to nothing', async () => {
  const open = await openPage(browser, server.url);
  const { page } = open;
  let asked = [];
  page.on('request', (request) => asked.push(new URL(request.url()).pathname));
  for (const path of PAGES) {
    await open.go(path);
    await page.locator('h1').first().waitFor();
    await page.waitForTimeout(800);
    asked = [];
    await page.waitForTimeout(1000);
    assert.ok(asked.length <= 2, `${path} asked for ${asked}`);
  }
  await open.close();
});

test('a hidden page asks for nothing', async () => {
  const open = await openPage(browser, server.url);
  const { page } = open;
  await page.getByText('Ready').first().waitFor();
  const asked = [];
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { value: true, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await page.waitForTimeout(300);
  page.on('request', (request) => asked.push(request.url()));
  await page.waitForTimeout(2500);
  assert.deepEqual(asked.filter((url) => url.includes('/api/')), []);
  await open.close();
});

test('the welcome is shown once and can be skipped', async () => {
  const open = await openPage(browser, server.url, { welcomed: false });
  const { page } = open;
  const dialog = page.getByRole('dialog', { name: 'Welcome to Perch' });
  await dialog.waitFor();
  await accessible(page, 'welcome');
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  await page.reload();
  await page.getByText('Ready').first().waitFor();
  await page.waitForTimeout(300);
  assert.equal(await dialog.count(), 0);
  await open.close();
});

test('snippets hold the real address and model, and what is copied works', async () => {
  const open = await openPage(browser, server.url, { path: 'connect/curl' });
  const { page } = open;
  await page.getByLabel('Model', { exact: true }).selectOption('tiny-two');
  await page.getByRole('button', { name: 'Copy Terminal' }).click();
  const text = await page.evaluate(() => navigator.clipboard.readText());
  assert.ok(text.includes(`${server.url}/v1/chat/completions`) && text.includes('tiny-two'), text);
  const { execFileSync } = await import('node:child_process');
  const answer = JSON.parse(execFileSync('sh', ['-c', text.replace('curl ', 'curl -sS ')], { encoding: 'utf8' }));
  assert.equal(answer.object, 'chat.completion', JSON.stringify(answer));
  await page.getByRole('link', { name: 'Codex' }).click();
  await page.getByText('does not serve yet').waitFor();
  await open.close();
});

test('requests can be inspected, and the log followed, filtered and paused', async () => {
  await server.call('/v1/chat/completions', { model: 'tiny-one', max_tokens: 4, messages: [{ role: 'user', content: 'a secret text' }] });
  const open = await openPage(browser, server.url, { path: 'logs' });
  const { page } = open;
  await page.locator('td button').first().click();
  await page.getByRole('dialog', { name: 'Request' }).getByText('/v1/chat/completions').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('link', { name: 'Log', exact: true }).click();
  await page.locator('.line').first().waitFor();
  await page.getByLabel('Filter lines').fill('route=/v1/chat/completions');
  await page.locator('.line').first().waitFor();
  assert.ok(!(await page.locator('.lines').textContent()).includes('a secret text'));
  await page.getByRole('button', { name: 'Pause' }).click();
  const before = await page.locator('.line').count();
  await server.call('/v1/chat/completions', { model: 'tiny-one', max_tokens: 4, messages: [{ role: 'user', content: 'x' }] });
  await page.waitForTimeout(500);
  assert.equal(await page.locator('.line').count(), before);
  await page.getByRole('button', { name: 'Go on' }).click();
  await page.waitForFunction((count) => document.querySelectorAll('.line').length > count, before);
  await open.close();
});

test('a machine without models says what to do', async () => {
  const empty = await start({ home: makeHome({ models: [] }) });
  const open = await openPage(browser, empty.url, { path: 'models' });
  await open.page.locator('article, .empty').first().waitFor();
  await open.close();
  await empty.end();
});
