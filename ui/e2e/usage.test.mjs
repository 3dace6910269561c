// Usage: off until somebody switches it on; figures, exports, erasing; by keyboard, in both schemes, in small windows.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { accessible, openBrowser, openPage } from './browser.mjs';
import { start } from './server.mjs';

let browser;
before(async () => (browser = await openBrowser()));
after(() => browser?.close());

const ask = (server, model) =>
  server.call('/v1/chat/completions', { model, max_tokens: 8, messages: [{ role: 'user', content: 'a secret text' }] });

test('it is off, explains itself, and is switched on, used, exported, switched off and erased', async () => {
  const server = await start({ models: ['tiny-one', 'tiny-two'] });
  const open = await openPage(browser, server.url, { path: 'usage' });
  const { page } = open;
  const counting = page.getByRole('switch', { name: 'Count requests' });
  await page.getByText('Requests are not counted').waitFor();
  await accessible(page, 'usage, off');
  assert.equal(await counting.getAttribute('aria-checked'), 'false');
  assert.ok(!existsSync(join(server.home, 'data', 'usage.db')));

  await page.getByRole('button', { name: 'Count requests', exact: true }).focus();
  await page.keyboard.press('Enter');
  await page.getByText('Nothing was asked yet').waitFor();
  assert.equal(await counting.getAttribute('aria-checked'), 'true');
  assert.match(readFileSync(join(server.home, 'data', 'config.toml'), 'utf8'), /\[usage\]\s+enabled = true/);
  await accessible(page, 'usage, empty');

  await ask(server, 'tiny-one');
  await ask(server, 'tiny-one');
  await ask(server, 'tiny-two');
  await assert.rejects(ask(server, 'no-such-model'));
  await page.reload();
  const table = page.getByRole('group', { name: 'Usage by model' });
  const row = table.getByRole('row', { name: /tiny-one/ });
  await row.waitFor();
  assert.equal(await row.getByRole('cell').first().textContent(), '2');
  await table.getByRole('row', { name: /No model/ }).getByText('model_not_found 1').waitFor();
  await page.getByLabel('Model', { exact: true }).selectOption('tiny-two');
  await page.getByRole('heading', { name: 'By day, tiny-two' }).waitFor();
  await page.getByRole('button', { name: '7 days' }).click();
  await page.locator('canvas').nth(1).waitFor();
  assert.ok(!(await page.content()).includes('a secret text'));

  const menu = page.getByRole('button', { name: 'Export and erase' });
  for (const [item, check] of [
    ['Export as CSV', (bytes) => bytes.toString().startsWith('day,model,requests,')],
    ['Export as Parquet', (bytes) => bytes.subarray(0, 4).toString() === 'PAR1'],
  ]) {
    await menu.click();
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('menuitem', { name: item }).click()]);
    assert.match(download.suggestedFilename(), /^perch-usage-\d{4}-\d\d-\d\d\.(csv|parquet)$/);
    assert.ok(check(readFileSync(await download.path())), item);
  }

  await counting.click();
  await page.getByText('Requests are not counted now').waitFor();
  await ask(server, 'tiny-one');
  await menu.focus();
  await page.keyboard.press('Enter');
  await page.getByRole('menuitem', { name: 'Erase…' }).waitFor();
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog', { name: 'Erase all counts?' });
  await dialog.waitFor();
  await accessible(page, 'usage, erasing');
  await dialog.getByRole('button', { name: 'Erase' }).click();
  await page.getByText('Requests are not counted', { exact: true }).waitFor();
  assert.equal((await server.call('/v1/admin/usage')).total.requests, 0);
  await open.close();
  await server.end();
});

test('figures are readable in both schemes, at 900 by 600 and on a phone', async () => {
  const server = await start({ models: ['tiny-one', 'tiny-two'], env: { PERCH_USAGE_ENABLED: 'true' } });
  await ask(server, 'tiny-one');
  await ask(server, 'tiny-two');
  for (const [colorScheme, width, height] of [['light', 900, 600], ['dark', 900, 600], ['light', 380, 700], ['dark', 380, 700]]) {
    const open = await openPage(browser, server.url, { path: 'usage', colorScheme, viewport: { width, height } });
    const { page } = open;
    await page.getByRole('heading', { name: 'By model' }).waitFor();
    await page.locator('canvas').nth(1).waitFor();
    await accessible(page, `usage, ${colorScheme}, ${width}`);
    const over = await page.evaluate(() => {
      const shown = document.querySelector('.page');
      return [document.documentElement.scrollWidth - innerWidth, shown.scrollWidth - shown.clientWidth];
    });
    assert.ok(Math.max(...over) <= 0, `wider than the window: ${over}`);
    await open.close();
  }
  // The environment has the last word, and the page says so.
  const open = await openPage(browser, server.url, { path: 'usage' });
  await open.page.getByRole('switch', { name: 'Count requests' }).click();
  await open.page.getByText('PERCH_USAGE_ENABLED').waitFor();
  assert.equal(await open.page.getByRole('switch', { name: 'Count requests' }).getAttribute('aria-checked'), 'true');
  await open.close();
  await server.end();
});

test('a damaged file is said, and erasing mends it', async () => {
  const server = await start({ models: [], env: { PERCH_USAGE_ENABLED: 'true' } });
  await server.stop();
  const { writeFileSync } = await import('node:fs');
  writeFileSync(join(server.home, 'data', 'usage.db'), 'x'.repeat(9000));
  const again = await start({ home: server.home, env: { PERCH_USAGE_ENABLED: 'true' } });
  const open = await openPage(browser, again.url, { path: 'usage' });
  await open.page.getByRole('alert').getByText('damaged').waitFor();
  await accessible(open.page, 'usage, damaged');
  await again.call('/v1/admin/usage', undefined, 'DELETE');
  await open.page.reload();
  await open.page.getByText('Nothing was asked yet').waitFor();
  await open.close();
  await again.end();
});
