import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const cache = fileURLToPath(new URL('../../node_modules/.cache/patchgate-conformance', import.meta.url));
const NAME = 'http-cache-tests';
const VERSION = '0.4.5';
/** The digest of this version in the registry (`npm view http-cache-tests@0.4.5 dist.integrity`). */
const INTEGRITY = 'sha512-DjuwN9nUZXLTW+wav1LRESCZNVxl8SshwOy4z1pxuWbWt5/ay6sM9QQ1lebBaDO6P1IMBoK6mdf+PuVP/QNL8A==';

/**
 * Where the parts of the suite are: its repository was put in another order after the package was published.
 * @param {string} folder
 */
export function layoutOf(folder) {
  const engine = join(folder, 'test-engine');
  const isNewer = existsSync(engine);
  const root = isNewer ? engine : folder;
  return {
    /** The newer client calls the global fetch, the older one the fetch it is given. */
    callsGlobalFetch: isNewer,
    runner: join(root, 'client/runner.mjs'),
    verdicts: join(root, isNewer ? 'lib/results.mjs' : 'lib/display.mjs'),
    server: join(root, 'server'),
    tests: ['index', 'surrogate-control'].map((name) => join(folder, `tests/${name}.mjs`)).filter(existsSync),
  };
}

/**
 * A fresh copy of the suite. It is no dependency of ours, as it would bring a whole npm of 2021 along; its archive is
 * downloaded once, and checked and unpacked for every run, so that what runs is what was published.
 * @returns {{ folder: string, remove: () => void }}
 */
export function unpackSuite() {
  mkdirSync(cache, { recursive: true });
  const archive = join(cache, `${NAME}-${VERSION}.tgz`);
  if (!existsSync(archive)) {
    // On Windows npm is no program but a script of the shell.
    execFileSync('npm', ['pack', `${NAME}@${VERSION}`, '--silent', '--ignore-scripts', '--pack-destination', cache], {
      stdio: ['ignore', 'ignore', 'inherit'],
      shell: process.platform === 'win32',
      timeout: 60_000,
    });
  }
  const found = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
  if (found !== INTEGRITY) {
    rmSync(archive);
    throw new Error(`${NAME}@${VERSION} is not what was expected: ${found}`);
  }
  const scratch = mkdtempSync(join(cache, 'run-'));
  execFileSync('tar', ['-xzf', archive, '-C', scratch], { timeout: 30_000 });
  return { folder: join(scratch, 'package'), remove: () => rmSync(scratch, { recursive: true, force: true }) };
}
