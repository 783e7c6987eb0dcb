// A gateway as a process, with its log, metrics and resources.
import { readFileSync } from 'node:fs';
import { end, MAIN, start, until } from './rig.mjs';

/** @typedef {import('./types.ts').Gateway} Gateway */
/** @typedef {import('./types.ts').LogLine} LogLine */

/** Lines of one gateway that are kept. */
const MOST_LINES = 1_000;

/**
 * @param {object} options
 * @param {number} options.index
 * @param {number} options.port
 * @param {string} options.file
 * @param {Record<string, unknown>} options.config
 * @param {import('./types.ts').Ways} options.toRedis
 * @param {import('./types.ts').Wire} options.toUpstream
 * @param {import('./types.ts').Setup} options.setup
 * @returns {Promise<Gateway>}
 */
export async function startGateway({ index, port, file, config, toRedis, toUpstream, setup }) {
  /** @type {LogLine[]} */
  const lines = [];
  /** @type {string[]} */
  const stderr = [];
  /** @type {{ from: number, to: number }[]} */
  const down = [];
  let adminPort = 0;
  const hear = (/** @type {string} */ text) => {
    const line = parsed(text);
    if (line?.msg === 'listening') adminPort = /** @type {{ port: number }} */ (line['admin']).port;
    if (line !== null && /^(warn|error|fatal)$/.test(line.level) && lines.length < MOST_LINES) lines.push(line);
  };
  const run = async () => {
    adminPort = 0;
    const args = [...(setup.nodeArgs ?? []), MAIN, 'serve', '--config', file];
    const child = start(process.execPath, args, setup.env?.(index), setup.stdoutIsFull);
    if (setup.stdoutIsFull) {
      // It can say nothing: the ports are those of the configuration.
      adminPort = configuredAdminPort(file);
      const ready = () =>
        fetch(`http://127.0.0.1:${adminPort}/livez`)
          .then(({ ok }) => ok)
          .catch(() => false);
      await until(`gateway ${index} lives`, ready);
    }
    byLine(child.stdout, hear);
    child.stderr?.on('data', (chunk) => void stderr.push(String(chunk)));
    await until(
      `gateway ${index} listens; it said ${stderr.join('')}`,
      () => adminPort !== 0 || child.exitCode !== null,
    );
    if (adminPort === 0) throw new Error(`gateway ${index} ended: ${stderr.join('')}`);
    return child;
  };
  let child = await run();
  return {
    index,
    port,
    url: `http://127.0.0.1:${port}`,
    get adminUrl() {
      return `http://127.0.0.1:${adminPort}`;
    },
    file,
    config,
    toRedis,
    toUpstream,
    child: () => child,
    down,
    lines,
    stderr,
    async kill() {
      if (child.exitCode === null && child.signalCode === null)
        down.push({ from: performance.now(), to: Number.POSITIVE_INFINITY });
      await end(child);
    },
    async start() {
      child = await run();
      const last = down.at(-1);
      if (last !== undefined) last.to = performance.now();
    },
    stop: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
  };
}

/** @param {string} file */
const configuredAdminPort = (file) => Number(JSON.parse(readFileSync(file, 'utf8')).listen.admin.port);

/** @param {string} text @returns {LogLine | null} */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** @param {import('node:stream').Readable | null} stream @param {(line: string) => void} hear */
function byLine(stream, hear) {
  let rest = '';
  stream?.setEncoding('utf8').on('data', (/** @type {string} */ chunk) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) hear(line);
  });
}
