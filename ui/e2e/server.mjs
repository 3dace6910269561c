// The real `perch serve` in an empty home, with tiny models that `perch bench --random` makes.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The binary that is tested: `TESTS_PERCH`, or the debug build of this checkout. */
export const perch = process.env.TESTS_PERCH ?? join(import.meta.dirname, '../../target/debug/perch');

if (!existsSync(perch)) throw new Error(`there is no ${perch}; run cargo build, or set TESTS_PERCH`);

/** An environment without anything that the user has set for Perch. */
function environment(home, more = {}) {
  const kept = Object.entries(process.env).filter(([name]) => !/^(PERCH|HF|XDG|HUGGINGFACE)_/.test(name));
  return { ...Object.fromEntries(kept), HOME: home, PERCH_DATA_DIR: join(home, 'data'), HF_HUB_OFFLINE: '1', ...more };
}

/** A folder for one server: models by name, `config.toml`. */
export function makeHome({ models = ['tiny-one'], config = '' } = {}) {
  const home = mkdtempSync(join(tmpdir(), 'perch-ui-'));
  const folder = join(home, 'data', 'models');
  mkdirSync(folder, { recursive: true });
  // `name`, or `name=SHAPE:TYPE` for another than the smallest.
  for (const model of models) {
    const [name, recipe = 'tiny:f32'] = model.split('=');
    execFileSync(perch, ['bench', '--random', recipe, '--write', join(folder, `${name}.gguf`)], {
      env: environment(home),
      stdio: 'ignore',
    });
  }
  if (config) writeFileSync(join(home, 'data', 'config.toml'), config);
  return home;
}

/** Starts a server and waits until it says where it listens. */
export async function start({ home, port = 0, env = {}, ...made } = {}) {
  home ??= makeHome(made);
  const child = spawn(perch, ['serve', '--port', String(port)], {
    env: environment(home, env),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  child.stderr.on('data', (data) => (log += data));
  const url = await new Promise((resolve, reject) => {
    let said = '';
    child.stdout.on('data', (data) => {
      said += data;
      const found = /listening on (\S+)/.exec(said);
      if (found) resolve(found[1]);
    });
    child.on('exit', (code) => reject(new Error(`perch serve ended with ${code}\n${log}`)));
  });
  // A test that fails ends no server: none of them keeps the run from ending, or stays behind.
  for (const held of [child, child.stdout, child.stderr]) held.unref();
  process.on('exit', () => child.kill());
  const server = {
    url,
    home,
    log: () => log,
    async stop() {
      if (child.exitCode !== null) return;
      child.ref();
      const gone = new Promise((resolve) => child.on('exit', resolve));
      child.kill('SIGTERM');
      await gone;
    },
    async end() {
      await this.stop();
      rmSync(home, { recursive: true, force: true });
    },
    async call(path, body, method = body === undefined ? 'GET' : 'POST') {
      const response = await fetch(url + path, {
        method,
        headers: body === undefined ? {} : { 'content-type': 'application/json' },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return text === '' ? null : JSON.parse(text);
    },
  };
  return server;
}
