import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { fileURLToPath } from 'node:url';
import type { Config } from './gateway.ts';
import { folder } from './process.ts';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const PRELOAD = new URL('./counting-preload.mjs', import.meta.url).href;
/** MiB: so much may be allocated before anything is collected. */
const YOUNG = 256;

export interface Call {
  readonly method?: string;
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body?: string;
  readonly status: number;
}

/** A gateway as a process of its own, whose allocations can be counted: the load that a test makes is not in its heap. */
export interface Counted {
  /** One after another on one connection; fails unless each is answered as expected. */
  call(calls: number, of: (turn: number) => Call): Promise<void>;
  /** So many at a time, each on a connection of its own. */
  crowd(calls: number, width: number, of: (turn: number) => Call): Promise<void>;
  /** Bytes a call: what the heap and the buffers have grown by, with nothing collected meanwhile. */
  bytesPerCall(calls: number, of: (turn: number) => Call): Promise<number>;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function counted(config: Config): Promise<Counted> {
  const files = await folder({ 'gateway.yaml': JSON.stringify(config) });
  const flags = [
    '--expose-gc',
    `--min-semi-space-size=${YOUNG}`,
    `--max-semi-space-size=${YOUNG}`,
    '--import',
    PRELOAD,
  ];
  const child = spawn(process.execPath, [...flags, MAIN, 'serve', '--config', 'gateway.yaml'], {
    cwd: files.path,
    env: { PATH: process.env['PATH'] },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  const port = await listening(child);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });

  const many = new Agent({ keepAlive: true });
  const one = ({ method = 'GET', path, headers, body, status }: Call, by = agent): Promise<void> =>
    new Promise((resolve, reject) => {
      const asked = request({ agent: by, port, host: '127.0.0.1', method, path, headers }, (answer) => {
        answer.resume();
        answer.once('end', () => {
          if (answer.statusCode === status) resolve();
          else reject(new Error(`${method} ${path}: ${answer.statusCode} in place of ${status}`));
        });
      });
      asked.once('error', reject);
      asked.end(body);
    });
  const call = async (calls: number, of: (turn: number) => Call): Promise<void> => {
    for (let turn = 0; turn < calls; turn++) await one(of(turn));
  };
  const tell = async (word: 'begin' | 'end'): Promise<unknown> => {
    const answer = once(child, 'message');
    child.send(word);
    const [told] = await answer;
    return told;
  };
  return {
    call,
    async crowd(calls, width, of) {
      let turn = 0;
      const caller = async (): Promise<void> => {
        while (turn < calls) await one(of(turn++), many);
      };
      await Promise.all(Array.from({ length: width }, caller));
    },
    async bytesPerCall(calls, of) {
      await tell('begin');
      await call(calls, of);
      const told = (await tell('end')) as { heap: number; buffers: number; collections: number };
      if (told.collections > 0) throw new Error(`collected ${told.collections} times: what was allocated is not known`);
      return (told.heap + Math.max(0, told.buffers)) / calls;
    },
    async [Symbol.asyncDispose]() {
      agent.destroy();
      many.destroy();
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
      await files[Symbol.asyncDispose]();
    },
  };
}

function listening(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.once('exit', () => reject(new Error(`the gateway ended:\n${text}`)));
    child.stdout?.on('data', (chunk) => {
      // Read for as long as it lives, or the pipe would fill; kept only until it is known where the gateway listens.
      if (text === '\0') return;
      text += chunk;
      const [, line] = /(\{.*"msg":"listening"\})/.exec(text) ?? [];
      if (line === undefined) return;
      text = '\0';
      resolve((JSON.parse(line) as { traffic: { port: number } }).traffic.port);
    });
  });
}
