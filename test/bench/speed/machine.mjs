// Describes the machine, the versions and the commit that the numbers belong to.
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus, release, totalmem } from 'node:os';
import { HERE } from './contestants/gateway.mjs';

/** @typedef {{ date: string, cpu: string, cores: number, memoryGib: number, kernel: string, commit: string, versions: Record<string, string> }} Machine */

/** @param {NodeJS.ProcessEnv} env @returns {Machine} */
export function describeMachine(env) {
  const [cpu] = cpus();
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: (cpu?.model ?? 'unknown').replace(/\s+/g, ' ').trim(),
    cores: cpus().length,
    memoryGib: Math.round(totalmem() / 1024 ** 3),
    kernel: release(),
    commit: commitOf(HERE),
    versions: {
      Node: process.version.slice(1),
      ...Object.fromEntries(
        ['undici', '@hono/node-server', 'hono', 'fastify', '@fastify/http-proxy'].map((name) => [
          name,
          installed(name),
        ]),
      ),
      nginx: asked(env, 'nginx', ['-v'], /nginx\/([\d.]+)/),
      Redis: asked(env, 'redis-server', ['--version'], /v=([\d.]+)/),
      wrk: asked(env, 'wrk', ['-v'], /([\d.]+\d)/),
      h2load: asked(env, 'h2load', ['--version'], /nghttp2\/([\d.]+)/),
    },
  };
}

/** @param {string} folder */
export function commitOf(folder) {
  try {
    const git = (/** @type {string[]} */ args) =>
      execFileSync('git', ['-C', folder, ...args], { encoding: 'utf8' }).trim();
    // The pages that the run itself writes do not change the measured code.
    const changed = git(['status', '--porcelain', '--', 'src', 'test/bench', 'package-lock.json']);
    return `${git(['rev-parse', '--short=10', 'HEAD'])}${changed === '' ? '' : ' with changes'}`;
  } catch {
    return 'unknown';
  }
}

/** @param {string} name @returns {string} */
function installed(name) {
  const require = createRequire(import.meta.url);
  // Not every package exports its package.json.
  const folder = require.resolve.paths(name)?.map((path) => `${path}/${name}/package.json`) ?? [];
  for (const file of folder) {
    try {
      return JSON.parse(readFileSync(file, 'utf8')).version;
    } catch {
      // Look one folder further up.
    }
  }
  return 'unknown';
}

/** @param {NodeJS.ProcessEnv} env @param {string} program @param {string[]} args @param {RegExp} pattern */
function asked(env, program, args, pattern) {
  const { stdout, stderr } = spawnSync(program, args, { env, encoding: 'utf8' });
  return pattern.exec(`${stdout}${stderr}`)?.[1] ?? 'unknown';
}
