// Compiles src to dist and copies the files that tsc ignores: Lua scripts, and the admin page, which is served as it is.
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
  filter: (source) => !/\.[^/.]+$/.test(source) || /\.(lua|html|css|js)$/.test(source),
});
chmodSync(inRoot('dist/main.js'), 0o755);
