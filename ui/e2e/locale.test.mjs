// Browsers whose language is none: as a terminal with LANG=C starts them.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openBrowser, openPage } from './browser.mjs';
import { start } from './server.mjs';

let server;
before(async () => (server = await start({ models: [] })));
after(() => server?.end());

async function showsItself(browser, script) {
  const open = await openPage(browser, server.url, { script });
  const { page } = open;
  await page.getByRole('heading', { name: 'Models in memory' }).waitFor();
  await page.locator('canvas').first().waitFor();
  const language = await page.evaluate(() => navigator.language);
  assert.doesNotThrow(() => new Intl.NumberFormat(language), language);
  await open.close();
  return language;
}

for (const language of ['C', 'en-US@posix', '']) {
  test(`the page appears where the browser calls its language ${JSON.stringify(language)}`, async () => {
    const browser = await openBrowser();
    const shown = await showsItself(browser, `
      Object.defineProperty(Navigator.prototype, 'language', { get: () => ${JSON.stringify(language)}, configurable: true });
      Object.defineProperty(Navigator.prototype, 'languages', { get: () => [${JSON.stringify(language)}], configurable: true });
    `);
    assert.equal(shown, 'en-US');
    await browser.close();
  });
}

test('the page appears in a browser that was started with LANG=C', async () => {
  const browser = await openBrowser({ LANG: 'C', LC_ALL: 'C', LANGUAGE: 'C' });
  await showsItself(browser);
  await browser.close();
});
