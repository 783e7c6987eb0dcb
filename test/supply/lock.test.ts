import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { installed, type Lock, nameAt, production, readLock, readManifest } from '../../scripts/supply/lock.mjs';
import { problemsOf, reachable } from '../support/package-lock.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const manifest = readManifest();

test('each package has one exact version and a hash, no address, and installs without a script', () => {
  expect(installed(readLock()).length).toBeGreaterThan(200);
  expect(problemsOf(readLock(), manifest)).toEqual([]);
});

test.each<[string, (lock: Lock) => void, string]>([
  ['a package without a hash', (lock) => change(lock, 'hono', { integrity: undefined }), 'no SHA-512'],
  [
    'a hash that is easily forged',
    (lock) => change(lock, 'hono', { integrity: 'sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=' }),
    'no SHA-512',
  ],
  [
    'a bundle without a hash',
    (lock) => change(lock, 'aws-cdk-lib', { integrity: undefined }),
    'aws-cdk-lib/node_modules/yaml has no',
  ],
  [
    'a package of a server',
    (lock) => change(lock, 'hono', { resolved: 'https://example.com/hono.tgz' }),
    'example.com',
  ],
  [
    'a package of a git repository',
    (lock) => change(lock, 'hono', { resolved: 'git+ssh://git@example.com/a.git#0' }),
    'git+ssh',
  ],
  ['a folder of this machine', (lock) => change(lock, 'hono', { link: true }), 'a link'],
  ['a script', (lock) => change(lock, 'hono', { hasInstallScript: true }), 'needs a script'],
  ['no version', (lock) => change(lock, 'hono', { version: '^4.0.0' }), '^4.0.0'],
])('%s is noticed', (_, change, problem) => {
  const lock = readLock();
  change(lock);
  expect(problemsOf(lock, manifest).join('\n')).toContain(problem);
});

test('a range in package.json is noticed', () => {
  const dependencies = { ...manifest.dependencies, hono: '^4.13.19', pino: 'latest' };
  expect(problemsOf(readLock(), { ...manifest, dependencies })).toHaveLength(2);
});

test('what the gateway runs on is what its own dependencies ask for, and nothing of development', () => {
  const lock = readLock();
  const needed = [...reachable(lock, Object.keys(manifest.dependencies))].sort();
  expect(production(lock).map(([path]) => path)).toEqual(needed);
  const names = needed.map(nameAt);
  for (const name of Object.keys(manifest.devDependencies)) expect(names).not.toContain(name);
});

test('no script of a package runs at an installation, and none that is installed has one', () => {
  expect(readFileSync(join(ROOT, '.npmrc'), 'utf8')).toMatch(/^ignore-scripts=true$/m);
  const here = installed(readLock()).filter(([path]) => existsSync(join(ROOT, path, 'package.json')));
  expect(here.length).toBeGreaterThan(150);
  const scripted = here.filter(([path]) => {
    const { scripts = {} } = JSON.parse(readFileSync(join(ROOT, path, 'package.json'), 'utf8')) as {
      scripts?: Record<string, string>;
    };
    // npm compiles a package with a binding.gyp even without an install script.
    return (
      ['preinstall', 'install', 'postinstall'].some((name) => name in scripts) ||
      existsSync(join(ROOT, path, 'binding.gyp'))
    );
  });
  expect(scripted.map(([path]) => path)).toEqual([]);
});

function change(lock: Lock, name: string, to: Record<string, unknown>): void {
  Object.assign(lock.packages[`node_modules/${name}`] ?? {}, to);
}
