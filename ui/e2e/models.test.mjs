// Models on this machine: loaded, made the default, deleted after a look at what goes. And cards of the hub that would do harm.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { accessible, openBrowser, openPage } from './browser.mjs';
import { start } from './server.mjs';

let browser;
before(async () => (browser = await openBrowser()));
after(() => browser?.close());

const row = (page, id) => page.getByRole('article', { name: id, exact: true });

test('a model is loaded, made the default and unloaded', async () => {
  const server = await start({ models: ['tiny-one', 'tiny-two'] });
  const open = await openPage(browser, server.url, { path: 'models' });
  const { page } = open;
  await row(page, 'tiny-two').getByRole('button', { name: 'Load' }).click();
  await row(page, 'tiny-two').getByText('In memory').waitFor();
  await row(page, 'tiny-two').getByRole('button', { name: 'More' }).click();
  await page.keyboard.press('Enter');
  await row(page, 'tiny-two').getByText('Default', { exact: true }).waitFor();
  assert.equal((await server.call('/api/default-model')).model, 'tiny-two');
  await row(page, 'tiny-two').getByRole('button', { name: 'Unload' }).click();
  await row(page, 'tiny-two').getByRole('button', { name: 'Load' }).waitFor();
  await page.getByLabel('Find a model').fill('ONE');
  await row(page, 'tiny-two').waitFor({ state: 'detached' });
  await open.close();
  await server.end();
});

test('a deletion says first what goes, and only then removes it', async () => {
  const server = await start({ models: ['tiny-one', 'tiny-two'] });
  const file = join(server.home, 'data', 'models', 'tiny-two.gguf');
  const open = await openPage(browser, server.url, { path: 'models' });
  const { page } = open;
  const ask = async () => {
    await row(page, 'tiny-two').getByRole('button', { name: 'More' }).click();
    await page.getByRole('menuitem', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByText('tiny-two.gguf').waitFor();
  };
  await ask();
  await accessible(page, 'delete');
  await page.getByRole('button', { name: 'Cancel' }).click();
  assert.ok(existsSync(file));
  await ask();
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await row(page, 'tiny-two').waitFor({ state: 'detached' });
  assert.ok(!existsSync(file));
  await row(page, 'tiny-one').waitFor();
  await open.close();
  await server.end();
});

const CARD = `---
license: apache-2.0
---
# A card
<script>window.hurt = 1</script><img src=x onerror="window.hurt = 2">
<a href="javascript:window.hurt=3">link</a> <iframe srcdoc="<script>parent.hurt=4</script>"></iframe>
<style>* { display: none }</style> <p style="position:fixed">text</p>

![pixel](https://tracker.example/pixel.png)
`;

/** As much of the hub as one model takes. */
async function hub() {
  const model = {
    id: 'somebody/harm-GGUF', author: 'somebody', sha: 'f'.repeat(40),
    lastModified: '2026-01-01T00:00:00.000Z', private: false, disabled: false, gated: false, downloads: 10, likes: 2,
    tags: ['gguf', 'license:apache-2.0'], pipeline_tag: 'text-generation', createdAt: '2026-01-01T00:00:00.000Z',
    gguf: { total: 1000, architecture: 'llama', context_length: 512 },
    siblings: [{ rfilename: 'README.md', size: CARD.length }, { rfilename: 'harm-Q8_0.gguf', size: 1000 }],
    cardData: { license: 'apache-2.0' },
  };
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://hub');
    const json = (body) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    };
    if (pathname === '/api/models') json([model]);
    else if (pathname.startsWith('/api/models/somebody/harm-GGUF/tree')) {
      json(model.siblings.map(({ rfilename, size }) => ({ type: 'file', path: rfilename, size, oid: 'a'.repeat(40) })));
    } else if (pathname.startsWith('/api/models/somebody/harm-GGUF')) json(model);
    else if (pathname.endsWith('README.md')) {
      response.writeHead(200, { 'content-type': 'text/plain', 'x-repo-commit': model.sha });
      response.end(CARD);
    } else {
      response.writeHead(404, { 'content-type': 'application/json' });
      response.end('{"error":"Not found"}');
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

test('nothing in a model card runs, hides or calls out', async () => {
  const remote = await hub();
  const server = await start({ models: [], env: { HF_HUB_OFFLINE: '0', HF_ENDPOINT: remote.url } });
  const open = await openPage(browser, server.url, { path: 'models/hub/somebody/harm-GGUF', refusals: true });
  const { page } = open;
  await page.getByRole('heading', { name: 'A card' }).waitFor();
  await page.waitForTimeout(300);
  assert.equal(await page.evaluate(() => window.hurt), undefined);
  assert.equal(await page.locator('.prose').locator('script, img, iframe, style, [style], [onerror]').count(), 0);
  await page.getByRole('button', { name: 'Download somebody/harm-GGUF' }).first().waitFor();
  await accessible(page, 'model page');
  await open.go('models/discover');
  await page.getByRole('searchbox').fill('harm');
  await page.getByText('somebody/harm-GGUF').waitFor();
  await open.close();
  await server.end();
  remote.close();
});

test('a hub that cannot be reached is said, and the rest goes on', async () => {
  const server = await start({ models: [] });
  const open = await openPage(browser, server.url, { path: 'models/hub/somebody/model' });
  await open.page.getByRole('alert').waitFor();
  await open.close();
  await server.end();
});
