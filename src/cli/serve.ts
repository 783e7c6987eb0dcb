import { format } from 'node:util';
import { systemClock } from '../clock.ts';
import { loadSettings, renderProblems } from '../config/load.ts';
import { createFileReaders, type ReadFile } from '../config/read-file.ts';
import type { Gateway } from '../gateway/gateway.ts';
import { createReloader, type Reloader } from '../reload/reloader.ts';
import { type FileWatch, watchFiles } from '../reload/watch.ts';
import type { Logger } from '../telemetry/log.ts';
import { CONFIG_OPTION, DEFAULT_CONFIG, type Io, readOptions, releaseEarlySignals, say } from './command-line.ts';

const HELP = `usage: patchgate serve [--config PATH]

Runs the gateway until SIGTERM or SIGINT.

  -c PATH, --config PATH   gateway.yaml (default: ${DEFAULT_CONFIG})

SIGTERM drains: the gateway is not ready, accepts requests for drain.delay, finishes requests in flight within
drain.timeout, and exits with 0. SIGINT (Ctrl-C) does the same without the delay. A second signal ends it at once.
The configuration is loaded again when its files change, on SIGHUP and on POST /reload. A valid configuration takes
effect for new requests. An invalid one is logged, and the old one stays in force.
`;

/** After a drain: what still reads a file is given up. */
const EXIT_MS = 500;

/** `patchgate serve`: exit code 0 after a drain, 1 if it could not start, 2 for wrong arguments. */
export async function serve(args: string[], io: Io): Promise<number> {
  const options = readOptions('serve', args, CONFIG_OPTION, HELP, io);
  if (!options.ok) return options.code;
  const path = options.values.config ?? DEFAULT_CONFIG;
  const fileReader = createFileReaders({ clock: systemClock });
  const reloader = createReloader((readFile) => loadSettings({ path, env: io.env, readFile }), fileReader);
  // Before the first load, whose end it waits for.
  process.on('SIGHUP', () => void reloader.reload({ actor: 'signal', address: null }));
  const loaded = await reloader.first();
  if (!loaded.ok) {
    say(io.stderr, renderProblems(loaded.problems));
    return 1;
  }
  // Loaded here because it takes most of the start: SIGHUP must be handled, and errors in files reported, before.
  const { createGateway } = await import('../gateway/gateway.ts');
  const gateway = createGateway({ settings: loaded.settings, reload: reloader.reload });
  logConsole(gateway.log);
  for (const warning of loaded.warnings) gateway.log.warn({}, warning);
  const starting = gateway.start();
  const stopped = untilStopped(gateway, starting);
  const started = await starting;
  if (!started.ok) {
    say(io.stderr, `patchgate serve: ${started.reason}`);
    await gateway.close();
    return 1;
  }
  const watch = watchLoaded(reloader, fileReader);
  // Neither waits for a load that is under way when the gateway stops.
  await Promise.race([reloader.attach(gateway, watch.refresh), stopped]);
  await stopped;
  watch.close();
  systemClock.after(EXIT_MS, () => process.exit(0));
  return 0;
}

function watchLoaded(reloader: Reloader, fileReader: () => ReadFile): FileWatch {
  return watchFiles({
    files: reloader.files,
    pollMs: () => {
      const settings = reloader.latest();
      return settings?.reload.watch ? settings.reload.pollMs : null;
    },
    reload: () => reloader.reload({ actor: 'file', address: null }),
    fileReader,
    clock: systemClock,
  });
}

/**
 * Resolves when the gateway has drained after the first signal; a second signal ends the process. A signal during the start
 * waits for the start, so that requests of that time are finished too.
 */
export function untilStopped(gateway: Pick<Gateway, 'drain'>, starting: Promise<unknown>): Promise<void> {
  return new Promise((resolve, reject) => {
    let stopping = false;
    const stop = (signal: NodeJS.Signals): void => {
      if (stopping) process.exit(130);
      stopping = true;
      starting.then(() => gateway.drain({ signal, withDelay: signal === 'SIGTERM' })).then(resolve, reject);
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
    releaseEarlySignals();
  });
}

const METHODS = ['error', 'warn', 'info', 'log', 'debug', 'trace'] as const;
/** Room for a stack, but not for the dump of an object. */
const MAX_TEXT_CHARS = 2_000;

/**
 * Sends the console and Node's warnings to the log. On the console they would be lines that no collector can parse, with
 * secrets in them. ioredis reports there that a server asks for no password, or forbids INFO.
 *
 * @returns restores the console
 */
export function logConsole(log: Logger): () => void {
  // Masked before it is cut: the mask does not recognise the beginning of a secret.
  const short = (text: string): string => log.mask(text).slice(0, MAX_TEXT_CHARS);
  const { console } = globalThis;
  const before = METHODS.map((method) => [method, console[method]] as const);
  for (const method of METHODS) {
    const level = method === 'error' || method === 'warn' ? 'warn' : 'debug';
    console[method] = (...values: unknown[]) =>
      log[level]({ text: short(format(...values)) }, 'a library wrote to the console');
  }
  // Node's own listener prints to standard error.
  const printers = process.listeners('warning');
  process.removeAllListeners('warning');
  const logWarning = ({ name, message, stack }: Error): void =>
    log.warn({ text: short(stack ?? `${name}: ${message}`) }, 'a warning of Node');
  process.on('warning', logWarning);
  return () => {
    for (const [method, own] of before) console[method] = own;
    process.off('warning', logWarning);
    for (const each of printers) process.on('warning', each);
  };
}
