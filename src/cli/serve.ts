import { systemClock } from '../clock.ts';
import { loadSettings, renderProblems } from '../config/load.ts';
import type { Gateway } from '../gateway/gateway.ts';
import { createReloader, type Reloader } from '../reload/reloader.ts';
import { type FileWatch, watchFiles } from '../reload/watch.ts';
import { logConsole } from '../telemetry/console.ts';
import { type Io, say } from './io.ts';
import { readOptions, refusePositionals } from './options.ts';

const HELP = `usage: patchgate serve [--config PATH]

Runs the gateway until SIGTERM or SIGINT.

  --config PATH   gateway.yaml (default: config/gateway.yaml)

SIGTERM drains: not ready at once, still accepting for drain.delay, then what is in flight is finished (drain.timeout
at most), exit 0. SIGINT (Ctrl-C) does the same without the delay. A second signal ends at once.
When its files change, on SIGHUP and on POST /reload the configuration is loaded again: a good one is in force for all
requests from then on, a bad one is refused and logged, and the old one stays.
`;

/** `patchgate serve`: exit 0 after a drain, 1 if it could not start, 2 if called wrongly. */
export async function serve(args: string[], io: Io): Promise<number> {
  const options = readOptions('serve', args, { config: { type: 'string' } }, HELP, io);
  if (!options.ok) return options.code;
  if (refusePositionals('serve', options.positionals, io)) return 2;
  const path = options.values.config ?? 'config/gateway.yaml';
  const reloader = createReloader((readFile) => loadSettings({ path, env: io.env, readFile }));
  // Before the first load: by default SIGHUP ends a process, and who edits the files early sends it early.
  process.on('SIGHUP', () => void reloader.reload());
  const loaded = await reloader.first();
  if (!loaded.ok) {
    say(io.stderr, renderProblems(loaded.problems));
    return 1;
  }
  // Only now: it takes most of the time of a start, in which SIGHUP would end the process and a mistake in a file would wait.
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
  const watch = watchLoaded(reloader, gateway);
  await reloader.attach(gateway, watch.refresh);
  await stopped;
  watch.close();
  return 0;
}

function watchLoaded(reloader: Reloader, { log }: Pick<Gateway, 'log'>): FileWatch {
  return watchFiles({
    files: reloader.files,
    pollMs: () => {
      const settings = reloader.latest();
      return settings?.reload.watch ? settings.reload.pollMs : null;
    },
    reload: reloader.reload,
    clock: systemClock,
    log,
  });
}

/**
 * Resolves when the gateway has drained after the first signal; a second one ends the process. From the call on: a signal
 * that comes while it starts waits for the start, or what it is asked by then would be cut off.
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
  });
}
