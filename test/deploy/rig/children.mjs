// Child processes, free ports and waiting with a deadline, for the test of the dashboards and for their picture alike.
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';

/** @typedef {import('node:child_process').ChildProcess} ChildProcess */

/** @returns {Promise<number>} a port that was free a moment ago */
export function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/**
 * Starts a process and keeps its output up to a bound, so that an error can show it.
 * @param {string} command @param {string[]} args @param {NodeJS.ProcessEnv} env
 */
export function run(command, args, env) {
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  const listen = (/** @type {unknown} */ chunk) => {
    if (said.length < 100_000) said += String(chunk);
  };
  child.stdout.on('data', listen);
  child.stderr.on('data', listen);
  child.on('error', (error) => listen(error.message));
  return { child, said: () => said };
}

/** By its own process id. @param {ChildProcess} child */
export async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
}

export const pause = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Polls with real time: other processes have no other.
 * @template T
 * @param {string} what @param {() => Promise<T | null | undefined | false>} look
 * @param {number} [withinMs]
 * @returns {Promise<T>} the first that is something
 */
export async function until(what, look, withinMs = 45_000) {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== null && found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`did not happen within ${withinMs} ms: ${what}`);
    await pause(50);
  }
}
