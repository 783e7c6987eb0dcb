import { loadSettings, renderProblems } from '../config/load.ts';
import { createGateway, type Gateway } from '../gateway.ts';
import { type Io, say } from './io.ts';
import { readOptions, refusePositionals } from './options.ts';
import { createReloader } from './reload.ts';

const HELP = `usage: patchgate serve [--config PATH]

Runs the gateway until SIGTERM or SIGINT.

  --config PATH   gateway.yaml (default: config/gateway.yaml)

SIGTERM drains: not ready at once, still accepting for drain.delay, then what is in flight is finished (drain.timeout
at most), exit 0. SIGINT (Ctrl-C) does the same without the delay. A second signal ends at once.
SIGHUP loads the configuration again: a good one is in force for all requests from then on, a bad one is refused and
logged, and the old one stays.
`;

/** `patchgate serve`: exit 0 after a drain, 1 if it could not start, 2 if called wrongly. */
export async function serve(args: string[], io: Io): Promise<number> {
  const options = readOptions('serve', args, { config: { type: 'string' } }, HELP, io);
  if (!options.ok) return options.code;
  if (refusePositionals('serve', options.positionals, io)) return 2;
  const load = () => loadSettings({ path: options.values.config ?? 'config/gateway.yaml', env: io.env });
  const reloader = createReloader(load);
  // Before the first load: by default SIGHUP ends a process, and who edits the files early sends it early.
  process.on('SIGHUP', () => void reloader.reload());
  const loaded = await load();
  if (!loaded.ok) {
    say(io.stderr, renderProblems(loaded.problems));
    return 1;
  }
  const gateway = createGateway({ settings: loaded.settings });
  for (const warning of loaded.warnings) gateway.log.warn({}, warning);
  const started = await gateway.start();
  if (!started.ok) {
    say(io.stderr, `patchgate serve: ${started.reason}`);
    await gateway.close();
    return 1;
  }
  await reloader.attach(gateway);
  await untilStopped(gateway);
  return 0;
}

/** Resolves when the gateway has drained after the first signal; a second one ends the process. */
export function untilStopped(gateway: Gateway): Promise<void> {
  return new Promise((resolve, reject) => {
    let stopping = false;
    const stop = (signal: NodeJS.Signals): void => {
      if (stopping) process.exit(130);
      stopping = true;
      gateway.drain({ signal, withDelay: signal === 'SIGTERM' }).then(resolve, reject);
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
  });
}
