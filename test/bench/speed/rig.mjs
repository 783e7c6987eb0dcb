// Child processes, each on one core, that end with the run; ports; a folder that goes with it.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { treeOf } from './proc.mjs';

/**
 * @typedef {{ proxy: number, load: number }} Cores
 * @typedef {{ code: number | null, stdout: string, stderr: string }} Ended
 * @typedef {ReturnType<typeof openRig>} Rig
 * @typedef {{ pid: number, stop: (signal?: NodeJS.Signals) => Promise<void>, said: () => string }} Running
 */

/** @param {{ env: NodeJS.ProcessEnv, cores: Cores }} options */
export function openRig({ env, cores }) {
  const scratch = mkdtempSync(join(tmpdir(), 'patchgate-bench-'));
  /** @type {Set<import('node:child_process').ChildProcess>} */
  const children = new Set();

  const close = () => {
    for (const child of children) endTree(child);
    rmSync(scratch, { recursive: true, force: true });
  };
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.once(signal, () => {
      close();
      process.exit(130);
    });
  }
  process.once('uncaughtException', (error) => {
    close();
    process.stderr.write(`${error.stack}\n`);
    process.exit(2);
  });
  // This process reads and waits, and does it beside the load.
  spawnSync('taskset', ['-acp', String(cores.load), String(process.pid)]);

  /**
   * `taskset` becomes the program it starts: the child's id is the program's.
   * @param {keyof Cores} on @param {string} command @param {readonly string[]} args @param {NodeJS.ProcessEnv} more
   */
  const launch = (on, command, args, more) => {
    const child = spawn('taskset', ['-c', String(cores[on]), command, ...args], {
      env: { ...env, ...more },
      cwd: scratch,
      // Programs format and write their logs to /dev/null, because the disk is not measured.
      stdio: ['ignore', on === 'proxy' ? 'ignore' : 'pipe', 'pipe'],
    });
    children.add(child);
    child.once('exit', () => children.delete(child));
    return child;
  };

  return {
    scratch,
    cores,
    close,
    /**
     * A server, until it is stopped.
     * @param {keyof Cores} on @param {string} command @param {readonly string[]} args @param {NodeJS.ProcessEnv} [more]
     * @returns {Running}
     */
    start(on, command, args, more = {}) {
      const child = launch(on, command, args, more);
      let said = '';
      child.stdout?.resume();
      child.stderr?.on('data', (chunk) => {
        said = `${said}${chunk}`.slice(-4_000);
      });
      child.on('error', (error) => {
        said += error.message;
      });
      return {
        pid: child.pid ?? 0,
        said: () => said,
        stop: async (signal = 'SIGTERM') => {
          if (child.exitCode !== null || child.signalCode !== null) return;
          const gone = new Promise((resolve) => child.once('exit', resolve));
          child.kill(signal);
          const late = setTimeout(() => endTree(child), 2_000);
          await gone;
          clearTimeout(late);
        },
      };
    },
    /**
     * A program that ends by itself.
     * @param {keyof Cores} on @param {string} command @param {readonly string[]} args
     * @returns {Promise<Ended>}
     */
    run: (on, command, args) =>
      new Promise((resolve, reject) => {
        const child = launch(on, command, args, {});
        let [stdout, stderr] = ['', ''];
        child.stdout?.on('data', (chunk) => {
          stdout += chunk;
        });
        child.stderr?.on('data', (chunk) => {
          stderr += chunk;
        });
        child.once('error', reject);
        child.once('close', (code) => resolve({ code, stdout, stderr }));
      }),
  };
}

/** Workers would outlive a master that is killed. @param {import('node:child_process').ChildProcess} child */
function endTree({ pid: root }) {
  for (const { pid } of root === undefined ? [] : treeOf(root)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // Gone by itself.
    }
  }
}

/** @returns {Promise<number>} */
export const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
