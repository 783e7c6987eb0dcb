import { loadSettings, renderProblems } from '../config/load.ts';
import { createGateway, type Gateway } from '../gateway.ts';
import { type Io, say } from './io.ts';
import { readOptions, refusePositionals } from './options.ts';

const HELP = `usage: patchgate serve [--config PATH]

Runs the gateway until SIGTERM or SIGINT.

  --config PATH   gateway.yaml (default: config/gateway.yaml)

SIGTERM drains: not ready at once, still accepting for drain.delay, then what is in flight is finished (drain.timeout
at most), exit 0. SIGHUP loads the configuration again; a bad one is refused, and the old one stays. SIGINT (Ctrl-C) does the same without the delay. A second signal ends at once.
`;

/** `patchgate serve`: exit 0 after a drain, 1 if it could not start, 2 if called wrongly. */
export async function serve(args: string[], io: Io): Promise<number> {
  const options = readOptions('serve', args, { config: { type: 'string' } }, HELP, io);
  if (!options.ok) return options.code;
  if (refusePositionals('serve', options.positionals, io)) return 2;
  const path = options.values.config ?? 'config/gateway.yaml';
  const loaded = await loadSettings({ path, env: io.env });
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
  const stopListening = reloadOnHangUp(gateway, () => loadSettings({ path, env: io.env }));
  await untilStopped(gateway);
  stopListening();
  return 0;
}

/** SIGHUP: loads the files again, one after the other if several come. */
function reloadOnHangUp(gateway: Gateway, load: () => ReturnType<typeof loadSettings>): () => void {
  let turn = Promise.resolve();
  const reload = async (): Promise<void> => {
    const loaded = await load();
    if (!loaded.ok) {
      gateway.refuseReload(renderProblems(loaded.problems).trimEnd().split('\n'));
      return;
    }
    gateway.reload(loaded.settings);
    for (const warning of loaded.warnings) gateway.log.warn({}, warning);
  };
  const onSignal = (): void => {
    turn = turn
      .then(reload)
      .catch((error: unknown) => gateway.log.error({ err: error }, 'reload failed; the old configuration stays'));
  };
  process.on('SIGHUP', onSignal);
  return () => process.off('SIGHUP', onSignal);
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
