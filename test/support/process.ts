import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

export interface Spawned {
  readonly child: ChildProcess;
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Resolves when the pattern has appeared on standard output; fails after thirty seconds or when the process ends. */
  waitFor(pattern: RegExp): Promise<RegExpExecArray>;
  /** The ports of a gateway, when it listens. */
  listening(): Promise<{ readonly traffic: number; readonly admin: number }>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** The built program, as the image runs it. Killed with the test, by its own process id. */
export function patchgate(
  args: string[],
  options: { env?: Record<string, string>; cwd?: string; stdin?: string; nodeArgs?: string[] } = {},
): Spawned {
  const child = spawn(process.execPath, [...(options.nodeArgs ?? []), MAIN, ...args], {
    cwd: options.cwd ?? tmpdir(),
    env: { PATH: process.env['PATH'], ...options.env },
    // The preloaded module talks to the test.
    stdio: ['pipe', 'pipe', 'pipe', ...(options.nodeArgs === undefined ? [] : (['ipc'] as const))],
  }) as ChildProcessWithoutNullStreams;
  let stdout = '';
  let stderr = '';
  const watchers = new Set<() => void>();
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
    for (const watch of watchers) watch();
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  child.stdin.end(options.stdin ?? '');
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  const waitFor = (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`${why}; looked for ${pattern} in:\n${stdout}\n${stderr}`));
      const timer = setTimeout(() => fail('thirty seconds are over'), 30_000);
      const look = () => {
        const match = pattern.exec(stdout);
        if (match === null) return;
        clearTimeout(timer);
        watchers.delete(look);
        resolve(match);
      };
      watchers.add(look);
      void exited.then(() => {
        clearTimeout(timer);
        fail('the process ended');
      });
      look();
    });
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    exited,
    waitFor,
    async listening() {
      const [, line = ''] = await waitFor(/(\{.*"msg":"listening"\})/);
      const { traffic, admin } = JSON.parse(line) as Record<'traffic' | 'admin', { port: number }>;
      return { traffic: traffic.port, admin: admin.port };
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await exited;
    },
  };
}

export interface Folder {
  readonly path: string;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A folder with these files, gone with the test. */
export async function folder(files: Record<string, string>): Promise<Folder> {
  const path = await mkdtemp(join(tmpdir(), 'patchgate-'));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(path, name)), { recursive: true });
    await writeFile(join(path, name), text);
  }
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
