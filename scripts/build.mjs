// Compiles src to dist and copies what tsc leaves behind (Lua scripts).
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const inRoot = (/** @type {string} */ path) => `${root}${path}`;

rmSync(inRoot('dist'), { recursive: true, force: true });
execFileSync(process.execPath, [inRoot('node_modules/typescript/bin/tsc'), '-p', inRoot('tsconfig.build.json')], {
  stdio: 'inherit',
});
cpSync(inRoot('src'), inRoot('dist'), {
  recursive: true,
  filter: (source) => !/\.[^/.]+$/.test(source) || source.endsWith('.lua'),
});
chmodSync(inRoot('dist/main.js'), 0o755);
