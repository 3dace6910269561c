// Settings: saved into config.toml, still there after a restart, refused where no start would take them; keys.

import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { accessible, openBrowser, openPage } from './browser.mjs';
import { makeHome, start } from './server.mjs';

let browser;
before(async () => (browser = await openBrowser()));
after(() => browser?.close());

test('a setting is saved with the comments around it, and counts after a restart', async () => {
  const home = makeHome({ models: [], config: '# mine\nmax_models = 3 # not two\n' });
  let server = await start({ home });
  const open = await openPage(browser, server.url, { path: 'settings' });
  const { page } = open;
  const models = page.getByLabel('Models in memory', { exact: true });
  await models.waitFor();
  assert.equal(await models.inputValue(), '3');
  await models.fill('4');
  await models.press('Enter');
  await page.getByText('After a restart').first().waitFor();
  await page.getByLabel('Unload when idle', { exact: true }).fill('1h');
  await page.getByLabel('Unload when idle', { exact: true }).blur();
  await page.getByText('Saved').first().waitFor();
  const text = () => readFileSync(join(home, 'data', 'config.toml'), 'utf8');
  for (let tries = 0; tries < 50 && !text().includes('idle_ttl'); tries += 1) await page.waitForTimeout(100);
  assert.equal(text(), '# mine\nmax_models = 4 # not two\nidle_ttl = "1h"\n');
  await open.close();
  await server.stop();

  server = await start({ home });
  const again = await openPage(browser, server.url, { path: 'settings' });
  await again.page.getByLabel('Models in memory', { exact: true }).waitFor();
  assert.equal(await again.page.getByLabel('Models in memory', { exact: true }).inputValue(), '4');
  assert.equal(await again.page.getByText('After a restart').count(), 0);
  await again.page.getByRole('button', { name: 'Reset Models in memory' }).click();
  await again.page.getByText('Saved').first().waitFor();
  assert.ok(!readFileSync(join(home, 'data', 'config.toml'), 'utf8').includes('max_models'));
  await again.close();
  await server.stop();
  rmSync(home, { recursive: true, force: true });
});

test('a value that no start would take is refused beside its field, and what was typed stays', async () => {
  const server = await start({ models: [] });
  const open = await openPage(browser, server.url, { path: 'settings' });
  const { page } = open;
  const ttl = page.getByLabel('Unload when idle', { exact: true });
  await ttl.fill('soon');
  await ttl.press('Enter');
  await page.getByRole('alert').getByText('is no time').waitFor();
  assert.equal(await ttl.inputValue(), 'soon');
  const host = page.getByLabel('Address', { exact: true });
  await host.fill('0.0.0.0');
  await host.press('Enter');
  await page.getByRole('alert').getByText('without a key').waitFor();
  await accessible(page, 'settings with errors');
  await open.close();
  await server.end();
});

test('what a variable sets is shown as such and cannot be changed', async () => {
  const server = await start({ models: [], env: { PERCH_MAX_MODELS: '5' } });
  const open = await openPage(browser, server.url, { path: 'settings' });
  const field = open.page.getByLabel('Models in memory', { exact: true });
  await field.waitFor();
  assert.equal(await field.inputValue(), '5');
  assert.ok(await field.isDisabled());
  await open.page.getByText('Set by PERCH_MAX_MODELS').waitFor();
  await open.close();
  await server.end();
});

test('a key is made, shown once, needed at once, and removed', async () => {
  const server = await start({ models: [] });
  const open = await openPage(browser, server.url, { path: 'settings' });
  const { page } = open;
  await page.getByRole('button', { name: 'Add a key' }).click();
  await page.getByLabel('What will use it').fill('Laptop');
  await page.getByRole('button', { name: 'Make the key' }).click();
  const secret = await page.locator('code.secret').textContent();
  assert.match(secret, /^sk-perch-[0-9a-f]{32}$/);
  await page.getByRole('button', { name: 'Done' }).click();
  assert.ok(!(await page.content()).includes(secret));
  assert.equal((await fetch(`${server.url}/api/status`)).status, 401);
  const keyed = await fetch(`${server.url}/api/settings`, { headers: { authorization: `Bearer ${secret}` } });
  assert.ok(!(await keyed.text()).includes(secret));
  assert.ok(!readFileSync(join(server.home, 'data', 'config.toml'), 'utf8').includes(secret));

  const stranger = await openPage(browser, server.url);
  await stranger.page.getByRole('dialog', { name: 'This server needs a key' }).waitFor();
  await accessible(stranger.page, 'key');
  await stranger.page.getByPlaceholder('API key').fill('wrong');
  await stranger.page.getByRole('button', { name: 'Continue' }).click();
  await stranger.page.getByText('is not one of this server').waitFor();
  await stranger.page.getByPlaceholder('API key').fill(secret);
  await stranger.page.getByRole('button', { name: 'Continue' }).click();
  await stranger.page.getByText('Ready').first().waitFor();
  await stranger.close();

  await page.getByRole('button', { name: 'Remove the key Laptop' }).click();
  await page.getByRole('button', { name: 'Remove', exact: true }).click();
  await page.getByText('programs on this machine need no key').waitFor();
  assert.equal((await fetch(`${server.url}/api/status`)).status, 200);
  await open.close();
  await server.end();
});

test('light and dark can be chosen and stay chosen', async () => {
  const server = await start({ models: [] });
  const open = await openPage(browser, server.url, { path: 'settings', colorScheme: 'light' });
  const { page } = open;
  const ground = (colour) => page.waitForFunction((colour) => getComputedStyle(document.body).backgroundColor === colour, colour);
  await page.getByRole('button', { name: 'Dark' }).click();
  await ground('rgb(30, 30, 32)');
  await page.reload();
  await page.getByRole('button', { name: 'System' }).waitFor();
  await ground('rgb(30, 30, 32)');
  await page.getByRole('button', { name: 'System' }).click();
  await ground('rgb(255, 255, 255)');
  await open.close();
  await server.end();
});
