import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';
import { type Tool, withTools } from '../../scripts/tools.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const TOOLS: Tool[] = ['redis-server', 'redis-cli', 'openssl', 'promtool', 'helm', 'kubectl'];
const TOOLS_OF_FULL: Tool[] = [...TOOLS, 'prometheus', 'chromium', 'haproxy', 'docker-compose'];

/** Before the first file, and in watch mode before each run: programs on the PATH, and dist, which the image and tests of the process run. */
export function setup(project: TestProject): void {
  Object.assign(process.env, withTools(project.name === 'full' ? TOOLS_OF_FULL : TOOLS));
  if (!build()) throw new Error('the build failed');
  // A change that does not compile yet has been reported; the tests that need no process run all the same.
  project.onTestsRerun(async () => void build());
}

/** Not again what is built: the files of another run may be in use. */
function build(): boolean {
  const built = join(root, 'dist/main.js');
  if (existsSync(built) && statSync(built).mtimeMs > lastChange(join(root, 'src'))) return true;
  return spawnSync(process.execPath, [join(root, 'scripts/build.mjs')], { stdio: 'inherit' }).status === 0;
}

/** A folder changes when a file is added, renamed or removed. */
function lastChange(folder: string): number {
  const below = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name));
  return Math.max(...[folder, ...below].map((path) => statSync(path).mtimeMs));
}
