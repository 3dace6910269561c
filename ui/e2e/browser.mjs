// A real Chromium, without anything that it would do on its own; and what a page must never do.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { chromium } from 'playwright-core';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** `env` is set besides what is set here. */
export async function openBrowser(env = {}) {
  return chromium.launch({
    executablePath: process.env.TESTS_CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    env: { ...process.env, ...env },
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
}

/** A page that fails the test on errors of scripts, on breaches of the policy and on requests to other hosts. */
export async function openPage(browser, url, { welcomed = true, clean = true, refusals = false, script, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, reducedMotion: 'reduce', ...options });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: url });
  if (welcomed) await context.addInitScript(() => localStorage.setItem('perch.welcomed', 'yes'));
  // What runs before the page's own scripts.
  if (script) await context.addInitScript(script);
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const faults = [];
  page.on('pageerror', (error) => faults.push(`error: ${error.message}`));
  page.on('console', (message) => {
    const text = message.text();
    if (refusals && /violates the following Content Security Policy/.test(text)) return;
    if (message.type() === 'error' && !/Failed to load resource/.test(text)) faults.push(`console: ${text}`);
  });
  page.on('dialog', (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('request', (request) => {
    const to = new URL(request.url());
    if (['http:', 'https:', 'ws:', 'wss:'].includes(to.protocol) && to.origin !== new URL(url).origin) {
      faults.push(`request to ${to.origin}`);
    }
  });
  const go = (path = '') => page.goto(`${url}/#/${path}`);
  await go(options.path ?? '');
  return {
    page,
    context,
    faults,
    go,
    async close() {
      await context.close();
      if (clean) assert.deepEqual(faults, []);
    },
  };
}

/** Fails on anything that axe finds. */
export async function accessible(page, what) {
  // Through the debugger, as the page's own policy lets no such script in.
  const session = await page.context().newCDPSession(page);
  const run = async (expression, awaitPromise = false) => {
    const answer = await session.send('Runtime.evaluate', { expression, awaitPromise, returnByValue: true });
    if (answer.exceptionDetails) throw new Error(JSON.stringify(answer.exceptionDetails));
    return answer.result.value;
  };
  await run(axeSource);
  const violations = await run(
    `axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations.map(({ id, help, nodes }) =>
      ({ id, help, nodes: nodes.slice(0, 4).map(({ html, failureSummary }) => html.slice(0, 160) + ' ' + failureSummary) })))`,
    true,
  );
  await session.detach();
  assert.deepEqual(violations, [], what);
}
