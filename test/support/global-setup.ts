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
  build();
  project.onTestsRerun(async () => build());
}

/** Not again what is built: the files of another run may be in use. */
function build(): void {
  const built = join(root, 'dist/main.js');
  if (existsSync(built) && statSync(built).mtimeMs > lastChange(join(root, 'src'))) return;
  const { status } = spawnSync(process.execPath, [join(root, 'scripts/build.mjs')], { stdio: 'inherit' });
  if (status !== 0) throw new Error('the build failed');
}

/** A folder changes when a file is added, renamed or removed. */
function lastChange(folder: string): number {
  const below = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name));
  return Math.max(...[folder, ...below].map((path) => statSync(path).mtimeMs));
}
