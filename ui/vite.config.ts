// Builds the dashboard into `dist`, each text file packed beside itself, for the server to carry.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

/** Packs what was written, and says how much a browser will fetch. */
function packed(): Plugin {
  return {
    name: 'packed',
    apply: 'build',
    closeBundle() {
      const assets = join(import.meta.dirname, 'dist/assets');
      let total = 0;
      for (const name of readdirSync(assets).filter((name) => /\.(js|css|svg)$/.test(name))) {
        const bytes = gzipSync(readFileSync(join(assets, name)), { level: 9 });
        writeFileSync(join(assets, `${name}.gz`), bytes);
        total += bytes.length;
      }
      console.log(`${(total / 1024).toFixed(1)} kB packed in all`);
    },
  };
}

export default defineConfig({
  plugins: [svelte(), packed()],
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false }, reportCompressedSize: false },
  // `npm run dev` talks to a server that runs beside it.
  server: {
    proxy: Object.fromEntries(
      ['/api', '/v1', '/hub', '/local', '/health', '/openapi.json', '/docs', '/redoc', '/metrics'].map((path) => [
        path,
        { target: process.env.PERCH_URL ?? 'http://127.0.0.1:8080', changeOrigin: true, headers: { origin: '' } },
      ]),
    ),
  },
});
