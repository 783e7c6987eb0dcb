// Parts of the chaos runs: child processes that end with the run, and a Redis.
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { withTools } from '../../scripts/tools.mjs';

/** The gateway's executable. */
export const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const env = withTools(['redis-server', 'openssl']);
export const scratch = mkdtempSync(join(tmpdir(), 'patchgate-chaos-'));
/** @type {Set<import('node:child_process').ChildProcess>} */
const children = new Set();
export const pause = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** Polls with a deadline. @param {string} what @param {() => boolean | Promise<boolean>} condition */
export async function until(what, condition, withinMs = 15_000) {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`did not happen within ${withinMs} ms: ${what}`);
    await pause(20);
  }
}
/**
 * Below what Linux gives to outgoing connections (32768 and up), and below the wires: the port of what is away for a while is not taken
 * meanwhile. The nodes of a Cluster talk to each other 10,000 above.
 */
const PORTS = { from: 12_000, to: 20_000 };
/** @returns {Promise<number>} */
export async function freePort() {
  for (;;) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from));
    const server = createServer();
    const free = await new Promise((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

/**
 * @param {string} command @param {readonly string[]} args @param {Readonly<Record<string, string>>} [more] environment
 * @param {boolean} [stdoutIsFull] every write to it fails: no space left on device
 */
export function start(command, args, more = {}, stdoutIsFull = false) {
  const stdout = stdoutIsFull ? openSync('/dev/full', 'w') : 'pipe';
  const child = spawn(command, args, { env: { ...env, ...more }, stdio: ['ignore', stdout, 'pipe'] });
  if (typeof stdout === 'number') closeSync(stdout);
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}
/** @param {import('node:child_process').ChildProcess} child @param {NodeJS.Signals} signal */
export async function end(child, signal = 'SIGKILL') {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise((resolve) => {
    const late = setTimeout(resolve, 40_000, null);
    child.once('exit', () => {
      clearTimeout(late);
      resolve(null);
    });
    child.kill(signal);
  });
}
export function cleanUp() {
  for (const child of children) {
    child.kill('SIGCONT');
    child.kill('SIGKILL');
  }
  rmSync(scratch, { recursive: true, force: true });
}
/** For a run by hand: what is ended, or fails half-way, must not leave servers behind. */
export function cleanUpAtTheEnd() {
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.once(signal, () => {
      cleanUp();
      process.exit(130);
    });
  }
  process.once('uncaughtException', (error) => {
    cleanUp();
    process.stderr.write(`${error.stack}\n`);
    process.exit(2);
  });
}

/** Starts a Redis without persistence. @param {number} port @param {string[]} more */
export async function startRedis(port, more = []) {
  const own = ['--port', String(port), '--bind', '127.0.0.1', '--dir', scratch, '--save', ''];
  const child = start('redis-server', [...own, ...more]);
  child.stdout?.resume();
  const probe = new Redis({ port, retryStrategy: () => 50, maxRetriesPerRequest: null });
  probe.on('error', () => {});
  await probe.ping();
  probe.disconnect();
  return child;
}
