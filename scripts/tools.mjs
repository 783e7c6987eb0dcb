// Finds what the tests run besides Node: a real redis-server (Sentinel and Cluster are the same program) and openssl. What
// is missing is taken from Debian's packages into node_modules/.cache: nothing is installed, no service is started, no root
// is needed. Where that can not be done, says what to install.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const cache = fileURLToPath(new URL('../node_modules/.cache/patchgate-tools', import.meta.url));

/** @type {Record<string, string[]>} Debian packages by program; the libraries that a slim image lacks included. */
const packages = {
  'redis-server': [
    'redis-tools',
    'redis-server',
    'liblua5.1-0',
    'lua-bitop',
    'lua-cjson',
    'libhiredis0.14',
    'libatomic1',
    'libjemalloc2',
    'liblzf1',
  ],
  openssl: ['openssl'],
};

/** @param {string} program @param {NodeJS.ProcessEnv} env */
const runs = (program, env) =>
  spawnSync(program, [program === 'openssl' ? 'version' : '--version'], { env, stdio: 'ignore' }).status === 0;

/**
 * The environment in which all of them run.
 * @returns {NodeJS.ProcessEnv}
 */
export function withTools() {
  const env = { ...process.env, ...cachedPaths() };
  const missing = Object.keys(packages).filter((program) => !runs(program, env));
  if (missing.length === 0) return env;
  console.log(`not found: ${missing.join(', ')}; taking it from Debian's packages`);
  const failures = missing.flatMap((program) => unpack(packages[program] ?? []));
  const now = { ...process.env, ...cachedPaths() };
  const still = missing.filter((program) => !runs(program, now));
  if (still.length > 0) {
    throw new Error(
      `the tests need ${still.join(' and ')}: install it (Debian: apt-get install --no-install-recommends redis-server openssl)` +
        (failures.length > 0 ? `\n${failures.join('\n')}` : ''),
    );
  }
  return now;
}

/** @param {string[]} names @returns {string[]} what went wrong */
function unpack(names) {
  mkdirSync(cache, { recursive: true });
  const failures = [];
  for (const name of names) {
    // One by one: what another release of Debian calls differently must not cost the others.
    const got = spawnSync('apt-get', ['download', '-q', name], { cwd: cache, encoding: 'utf8' });
    if (got.status !== 0) {
      // A fresh image has no lists yet.
      if (!refreshed) refresh();
      const again = spawnSync('apt-get', ['download', '-q', name], { cwd: cache, encoding: 'utf8' });
      if (again.status !== 0)
        failures.push(`apt-get download ${name}: ${(again.stderr ?? String(again.error)).trim()}`);
    }
  }
  for (const file of readdirSync(cache).filter((each) => each.endsWith('.deb'))) {
    execFileSync('dpkg', ['-x', join(cache, file), join(cache, 'root')], { stdio: 'inherit' });
  }
  return failures;
}

let refreshed = false;
function refresh() {
  refreshed = true;
  spawnSync('apt-get', ['update', '-q'], { stdio: 'ignore' });
}

/** @returns {{ PATH?: string, LD_LIBRARY_PATH?: string }} */
function cachedPaths() {
  const root = join(cache, 'root');
  if (!existsSync(root)) return {};
  const libs = ['usr/lib', 'lib'].map((each) => join(root, each)).filter((each) => existsSync(each));
  const libraries = libs.flatMap((lib) => [lib, ...readdirSync(lib).map((each) => join(lib, each))]);
  return {
    PATH: `${process.env['PATH'] ?? ''}:${join(root, 'usr/bin')}`,
    LD_LIBRARY_PATH: [process.env['LD_LIBRARY_PATH'], ...libraries].filter(Boolean).join(':'),
  };
}
