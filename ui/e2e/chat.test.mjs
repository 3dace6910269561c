// Chat against a real model: streaming, stopping, editing, alternatives, drafts, keeping; and text that would do harm.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { accessible, openBrowser, openPage } from './browser.mjs';
import { door } from './door.mjs';
import { start } from './server.mjs';

let server;
let browser;
before(async () => {
  server = await start({ models: ['tiny-one', 'slow-one=small:f32'] });
  browser = await openBrowser();
});
after(async () => {
  await browser?.close();
  await server?.end();
});

const message = (page) => page.getByRole('textbox', { name: 'Message', exact: true });

async function newChat(limit, model = 'tiny-one') {
  const open = await openPage(browser, server.url, { path: 'chat' });
  const { page } = open;
  await page.getByLabel('Model', { exact: true }).selectOption(model);
  if (limit) {
    await page.getByRole('button', { name: 'Options' }).click();
    await page.getByLabel('Most tokens').fill(String(limit));
    await page.getByLabel('Most tokens').press('Tab');
    await page.getByRole('button', { name: 'Options' }).click();
  }
  return open;
}

test('an answer streams in, is measured, and is there after a reload', async () => {
  const open = await newChat(40);
  const { page } = open;
  await message(page).fill('Tell me a story');
  await message(page).press('Enter');
  await page.getByText('to first token').waitFor();
  await page.getByText('40 tokens').waitFor();
  assert.match(page.url(), /#\/chat\/[0-9a-f]{32}$/);
  const said = await page.locator('.prose').last().textContent();
  assert.ok(said.trim().length > 0);
  await page.reload();
  await page.getByText('Tell me a story').first().waitFor();
  await page.waitForFunction((text) => document.querySelector('.prose')?.textContent === text, said);
  await accessible(page, 'chat');
  await open.close();
});

test('an answer can be stopped, and what was written stays', async () => {
  const open = await newChat(1500, 'slow-one');
  const { page } = open;
  await message(page).fill('Go on and on');
  await message(page).press('Enter');
  await page.waitForFunction(() => (document.querySelector('.prose')?.textContent ?? '').length > 20);
  await message(page).press('Escape');
  await page.getByText('Stopped.').waitFor();
  const said = await page.locator('.prose').textContent();
  assert.ok(said.length > 10);
  await page.reload();
  await page.getByText('Stopped.').waitFor();
  await open.close();
});

test('a question is edited and an answer asked for again; all versions stay', async () => {
  const open = await newChat(12);
  const { page } = open;
  await message(page).fill('First question');
  await message(page).press('Enter');
  await page.getByText('12 tokens').waitFor();
  await page.getByRole('button', { name: 'Answer again' }).click();
  await page.getByText('2/2').waitFor();
  await page.getByText('12 tokens').waitFor();
  await page.getByRole('button', { name: 'Alternative before' }).click();
  await page.getByText('1/2').waitFor();
  await page.getByText('First question').last().hover();
  await page.getByRole('button', { name: 'Edit', exact: true }).click();
  await page.getByLabel('Edit the message').fill('Second question');
  await page.getByLabel('Edit the message').press('Enter');
  await page.getByText('Second question').last().waitFor();
  await page.getByText('12 tokens').waitFor();
  await page.getByText('Second question').last().hover();
  await page.getByRole('button', { name: 'Alternative before' }).first().click();
  await page.locator('.bubble').getByText('First question').waitFor();
  await open.close();
});

test('what was typed is never lost', async () => {
  const open = await newChat();
  const { page } = open;
  await message(page).fill('half a thought');
  await page.reload();
  await page.waitForFunction(() => document.querySelector('textarea')?.value === 'half a thought');
  await open.go('models');
  await open.go('chat');
  assert.equal(await message(page).inputValue(), 'half a thought');
  // A model that is not there: the error is the server's, and the text comes back.
  await page.route('**/api/v1/chat', (route) => route.fulfill({
    status: 404,
    contentType: 'application/json',
    body: '{"error":{"message":"there is no such model","type":"x","param":null,"code":"model_not_found"}}',
  }));
  await message(page).press('Enter');
  await page.getByText('there is no such model').waitFor();
  assert.equal(await message(page).inputValue(), 'half a thought');
  await open.close();
});

test('conversations are found, renamed, exported and deleted', async () => {
  const open = await newChat(8);
  const { page } = open;
  await message(page).fill('About the zanzibar affair');
  await message(page).press('Enter');
  await page.getByText('8 tokens').waitFor();
  await page.getByLabel('Search conversations').fill('zanzibar');
  await page.locator('aside mark').first().waitFor();
  await page.locator('aside li').first().hover();
  await page.locator('aside li').first().getByRole('button').click();
  await page.getByRole('menuitem', { name: 'Rename' }).click();
  await page.getByLabel('Title').fill('Affair of state');
  await page.getByLabel('Title').press('Enter');
  await page.locator('aside').getByText('Affair of state').waitFor();
  await page.locator('aside li').first().hover();
  await page.locator('aside li').first().getByRole('button').click();
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('menuitem', { name: 'Export as Markdown' }).click()]);
  assert.equal(file.suggestedFilename(), 'Affair of state.md');
  await page.locator('aside li').first().getByRole('button').click();
  await page.getByRole('menuitem', { name: 'Delete' }).click();
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await page.locator('aside').getByText('Affair of state').waitFor({ state: 'detached' });
  await page.getByText('What would you like to know').waitFor();
  await open.close();
});

test('files of text go along, and images are declined', async () => {
  const open = await newChat(6);
  const { page } = open;
  const picker = page.locator('form input[type=file]');
  await picker.setInputFiles({ name: 'cat.png', mimeType: 'image/png', buffer: Buffer.from([137, 80, 78, 71]) });
  await page.getByText('no model that takes images').waitFor();
  await picker.setInputFiles({ name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('alpha beta') });
  await page.getByText('notes.txt').waitFor();
  await message(page).fill('What is in it?');
  await message(page).press('Enter');
  await page.locator('.bubble').getByText('alpha beta').waitFor();
  await open.close();
});

const HARM = [
  '<script>window.hurt = 1</script>', '<img src=x onerror="window.hurt = 2">', '<svg onload="window.hurt = 3"><a href="javascript:window.hurt=4">x</a></svg>',
  '[click](javascript:window.hurt=5)', '<a href="data:text/html,<script>alert(1)</script>">data</a>', '<iframe src="javascript:window.hurt=6"></iframe>',
  '<form action="/api/v1/unload-model"><input name=model><button>go</button></form>', '<style>body { display: none }</style>',
  '<div id="app" style="position:fixed;inset:0">over</div>', '![x](http://evil.example/pixel.png)', '<details open ontoggle="window.hurt=7">x</details>',
  '<math><mtext><table><mglyph><style><img src=x onerror="window.hurt=8">', '```html\n</code></pre><img src=x onerror="window.hurt=9">\n```',
  '```"><img/src/onerror=window.hurt=10>\ncode\n```', '<noscript><p title="</noscript><img src=x onerror=window.hurt=11>">',
].join('\n\n');

test('nothing that a model writes runs, hides or calls out', async () => {
  const now = Date.now();
  const id = 'a'.repeat(32);
  const [question, answer] = ['b'.repeat(32), 'c'.repeat(32)];
  const message = (id, parent, role, content) => ({ id, parent, role, content, state: 'complete', created_at: now });
  await server.call('/api/v1/chat/import', {
    format: 'perch-conversations',
    version: 1,
    conversations: [{
      conversation: { id, title: '<img src=x onerror=window.hurt=12>', created_at: now, updated_at: now, message_count: 2, head: answer },
      messages: [message(question, null, 'user', HARM), message(answer, question, 'assistant', HARM)],
    }],
  });
  // What is only parsed, in a document that is never shown, is reported by the policy all the same.
  const open = await openPage(browser, server.url, { path: `chat/${id}`, refusals: true });
  const { page } = open;
  await page.locator('.prose .code-frame').first().waitFor();
  await page.waitForTimeout(500);
  assert.equal(await page.evaluate(() => window.hurt), undefined);
  const bad = await page.locator('.prose').evaluate((prose) => ({
    tags: [...prose.querySelectorAll('script, img, svg, iframe, form, input, style, math, noscript')].map((node) => node.tagName),
    handlers: [...prose.querySelectorAll('*')].flatMap((node) => [...node.attributes].map((a) => a.name)).filter((name) => /^on|^style$|^id$|^name$/.test(name)),
    links: [...prose.querySelectorAll('a')].map((a) => a.href).filter((href) => !/^https?:/.test(href)),
  }));
  assert.deepEqual(bad, { tags: [], handlers: [], links: [] });
  assert.ok(await page.locator('nav').first().isVisible());
  await open.close();
});

test('a long answer is drawn without stutter', async () => {
  const open = await newChat();
  const { page } = open;
  const words = 'Some words of **an answer** with `code` and a [link](https://example.com). ';
  const pieces = Array.from({ length: 1500 }, (_, at) => (at % 40 === 39 ? '\n\n' : at % 200 === 100 ? '\n\n```js\nconst a = 1;\n```\n\n' : words));
  // The model is quick in answering here, so that drawing is all that is measured.
  const event = (data) => `data: ${JSON.stringify(data)}\n\n`;
  const done = { id: 'd'.repeat(32), role: 'assistant', content: pieces.join(''), state: 'complete', created_at: 1 };
  await page.route('**/api/v1/chat', (route) => route.fulfill({
    contentType: 'text/event-stream',
    body: event({ type: 'start', conversation: null, user_message: null, message_id: done.id }) +
      pieces.map((content) => event({ type: 'delta', content })).join('') +
      event({ type: 'done', conversation: null, message: done }) + 'data: [DONE]\n\n',
  }));
  await page.evaluate(() => {
    window.long = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.long = Math.max(window.long, entry.duration);
    }).observe({ entryTypes: ['longtask'] });
  });
  await message(page).fill('go');
  await message(page).press('Enter');
  await page.locator('.prose .code-frame').nth(5).waitFor();
  assert.ok((await page.evaluate(() => window.long)) < 2500);
  await open.close();
});

test('code that streams in is the text so far at every moment, and coloured at the end', async () => {
  const code = Array.from({ length: 60 }, (_, n) => `const step${n} = \`\${value} & <b>${n}</b>\`; // \`\`\` ${n}\n`).join('');
  const text = `Here:\n\n\`\`\`ts\n${code}\`\`\`\n\nThat is all.`;
  const through = await door(server, text.match(/[^]{1,5}/g), 200);
  const open = await openPage(browser, through.url, { path: 'chat' });
  const { page } = open;
  await page.evaluate(() => {
    window.seen = [];
    const look = () => {
      const shown = document.querySelector('article[aria-busy] .code-frame code');
      if (shown) window.seen.push(shown.textContent);
      requestAnimationFrame(look);
    };
    look();
  });
  await message(page).fill('go');
  await message(page).press('Enter');
  await page.getByText('That is all.').waitFor();
  const seen = await page.evaluate(() => window.seen);
  assert.ok(seen.length > 4, `${seen.length}`);
  for (const [at, shown] of seen.entries()) {
    assert.ok(code.startsWith(shown), JSON.stringify(shown.slice(-40)));
    assert.ok(shown.startsWith(seen[at - 1] ?? ''), 'what was shown is taken back');
  }
  const last = page.locator('.code-frame code').last();
  assert.equal(await last.textContent(), code.trimEnd());
  assert.ok((await last.locator('.hljs-keyword').count()) >= 60);
  await open.close();
  through.close();
});

/** What the page makes of `pieces`, once it is drawn, by a function that runs there. */
async function streamed(pieces, pace, { prepare, read }) {
  const through = await door(server, pieces, pace);
  const open = await openPage(browser, through.url, { path: 'chat' });
  const { page } = open;
  if (prepare) await page.evaluate(prepare);
  await message(page).fill('go');
  await message(page).press('Enter');
  await page.getByRole('button', { name: 'Answer again' }).waitFor({ timeout: 60_000 });
  await page.waitForTimeout(600);
  const found = await page.evaluate(read);
  await open.close();
  through.close();
  return found;
}

test('a block of code is the same however it arrives, and what is drawn of it stays', async () => {
  const lines = Array.from({ length: 150 }, (_, n) => `const step${n} = \`\${value} <b>${n}</b>\`; // ${n}\n`);
  lines[5] = lines[5].replace('\n', `${' and so on'.repeat(40)}\n`);
  // Longer than the stretches that are coloured by themselves.
  lines.splice(40, 0, '/*\n', ...Array.from({ length: 70 }, (_, n) => ` * const is no keyword here: ${n}\n`), ' */\n');
  const text = `Here:\n\n\`\`\`ts\n${lines.join('')}\`\`\`\n\nThat is all.`;
  const read = () => {
    const code = document.querySelector('.code-frame code');
    return {
      html: code.innerHTML,
      kept: code.querySelector('.part .part') === window.first,
      taken: window.taken,
      fits: code.closest('.code-frame').getBoundingClientRect().right < innerWidth,
      comments: code.querySelectorAll('.hljs-comment').length,
      selected: (getSelection().selectAllChildren(code), getSelection().toString()),
      text: code.textContent,
    };
  };
  const prepare = () => {
    window.taken = 0;
    let length = 0;
    const look = () => {
      const code = document.querySelector('.code-frame code');
      if (code) {
        window.first ??= code.querySelector('.part .part');
        window.taken += code.textContent.length < length ? 1 : 0;
        length = code.textContent.length;
      }
      requestAnimationFrame(look);
    };
    look();
  };
  const slow = await streamed(text.match(/[^]{1,7}/g), 500, { prepare, read });
  const quick = await streamed([text], 500, { prepare, read });
  assert.equal(slow.text, lines.join('').trimEnd());
  assert.equal(slow.html, quick.html);
  assert.ok(slow.kept, 'the beginning was drawn anew');
  assert.equal(slow.taken, 0);
  assert.ok(slow.fits, 'a long line makes the page wider');
  assert.equal(slow.comments, 151);
  assert.equal(slow.selected.trimEnd(), slow.text);
});

test('a token costs as little at the end of a very long block of code as in a short one', async () => {
  const line = (n) => `const value${n}: string = \`\${scale(${n})}\`; // ${n}\n`;
  const pieces = Array.from({ length: 40 }, (_, n) => line(n)).join('').match(/[^]{1,5}/g);
  const prepare = () => {
    window.drawn = [];
    // Letters that one change of the page writes.
    new MutationObserver((changes) => {
      if ((document.querySelector('.prose')?.textContent.length ?? 0) < window.after) return;
      window.drawn.push(changes.reduce((sum, { addedNodes }) => sum + [...addedNodes].reduce((all, node) => all + node.textContent.length, 0), 0));
    }).observe(document.body, { subtree: true, childList: true });
  };
  const most = async (before) => {
    const text = Array.from({ length: before }, (_, n) => line(n)).join('');
    // The beginning arrives in parts: a page that is busy with it would count it as one change.
    const drawn = await streamed([`\`\`\`ts\n`, text, ...Array(60).fill(''), ...pieces], 120, {
      prepare: `window.after = ${text.length}; (${prepare})()`,
      read: () => window.drawn.slice(window.drawn.length >> 1),
    });
    assert.ok(drawn.length > 4, `${drawn.length}`);
    return Math.max(...drawn);
  };
  // The long one may still be busy with the colours of what came before, so much at a time.
  const [short, long] = [await most(50), await most(4000)];
  assert.ok(short < 2000 && long < 8000, `${short} letters, and ${long}`);
});

test('code of a page that streams in does no harm', async () => {
  const harm = '</code></pre><img src=x onerror="window.hurt=1"><script>window.hurt=2</script>\n<svg/onload=window.hurt=3>\n'.repeat(12);
  for (const language of ['html', '"><img/src/onerror=window.hurt=4>']) {
    const { hurt, tags, text } = await streamed(`\`\`\`${language}\n${harm}`.match(/[^]{1,9}/g), 500, {
      read: () => ({
        hurt: window.hurt,
        tags: [...new Set([...document.querySelectorAll('.prose code *')].map(({ tagName }) => tagName))],
        text: document.querySelector('.prose code').textContent,
      }),
    });
    assert.equal(hurt, undefined);
    assert.deepEqual(tags, ['SPAN']);
    assert.equal(text, harm.trimEnd());
  }
});
