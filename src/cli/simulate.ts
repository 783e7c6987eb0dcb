import { parseDuration } from '../config/option-types.ts';
import type { Switches } from '../simulator/options.ts';
import { FAKE_PASSWORD, FAKE_PRIMARY_KEY, FAKE_USER } from '../simulator/options.ts';
import { createSimulator } from '../simulator/simulator.ts';
import { type Io, readOptions, say } from './command-line.ts';
import { releaseEarlySignals } from './early-signals.ts';

const HELP = `usage: patchgate simulate [options]

Runs a stand-in for the Patchworks API until Ctrl-C: core, start and login behind one port.

  --port N           (default: 4010; 0 takes any free one)
  --host ADDRESS     (default: 127.0.0.1)
  --limit N          requests in a window of 60 s (default: 240)
  --scope SCOPE      count requests by account or by key (default: account)
  --latency TIME     mean latency of responses, such as 80ms (default: none)
  --api-key ID=KEY   accept this key; repeatable (default: a fake key)
`;

/** `patchgate simulate`. */
export async function simulate(args: string[], io: Io): Promise<number> {
  const options = readOptions(
    'simulate',
    args,
    {
      port: { type: 'string' },
      host: { type: 'string' },
      limit: { type: 'string' },
      scope: { type: 'string' },
      latency: { type: 'string' },
      'api-key': { type: 'string', multiple: true },
    },
    HELP,
    io,
  );
  if (!options.ok) return options.code;
  const { values } = options;
  const port = wholeOf(values.port ?? '4010', 0, 65_535);
  const limit = wholeOf(values.limit ?? '240', 1, 10_000_000);
  const latencyMs = values.latency === undefined ? 0 : parseDuration(values.latency);
  const scope = values.scope ?? 'account';
  const apiKeys = keysOf(values['api-key']);
  const wrong =
    (port === null && '--port must be a number from 0 to 65535') ||
    (limit === null && '--limit must be a whole number from 1') ||
    (latencyMs === null && '--latency must be a duration such as 80ms') ||
    (scope !== 'account' && scope !== 'key' && '--scope must be account or key') ||
    (apiKeys === null && '--api-key must be given as ID=KEY');
  if (wrong || port === null || limit === null || latencyMs === null || apiKeys === null) {
    say(io.stderr, `patchgate simulate: ${wrong}`);
    return 2;
  }
  const host = values.host ?? '127.0.0.1';
  const responseLatency: Switches['responseLatency'] = {
    kind: 'exponential',
    minMs: latencyMs / 2,
    meanMs: latencyMs,
    maxMs: latencyMs * 10,
  };
  try {
    const simulator = await createSimulator({
      port,
      host,
      ...(apiKeys !== undefined && { apiKeys }),
      switches: { limit, scope: scope as Switches['scope'], ...(latencyMs > 0 && { responseLatency }) },
    });
    // Before the banner: a script may send a signal as soon as it reads the banner.
    const stopped = new Promise<void>((resolve) => {
      process.once('SIGINT', resolve);
      process.once('SIGTERM', resolve);
      releaseEarlySignals();
    });
    say(io.stdout, banner(simulator.url, limit, apiKeys === undefined));
    await stopped;
    await simulator.close();
    return 0;
  } catch (error) {
    const inUse = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
    say(
      io.stderr,
      `patchgate simulate: the port ${host}:${port} ${inUse ? 'is in use by another process' : 'cannot be used'}`,
    );
    return 1;
  }
}

function banner(url: string, limit: number, fakeKey: boolean): string {
  const authorization = fakeKey ? FAKE_PRIMARY_KEY : '<your key>';
  return `patchgate simulate: a stand-in for Patchworks on ${url}, limit ${limit} requests in 60 s

  curl -si '${url}/api/v1/flows?per_page=2' -H 'Authorization: ${authorization}' -H 'Accept: application/json'
  curl -s ${url}/fabric/api/login -d '{"username":"${FAKE_USER}","password":"${FAKE_PASSWORD}"}'
  curl -s ${url}/_simulator/stats
`;
}

function wholeOf(text: string, min: number, max: number): number | null {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  return value >= min && value <= max ? value : null;
}

/** Undefined: no key was given. Null: a key is malformed. */
function keysOf(given: string[] | undefined): Record<string, string> | undefined | null {
  if (given === undefined) return undefined;
  const keys: Record<string, string> = {};
  for (const each of given) {
    const [id = '', ...rest] = each.split('=');
    if (id === '' || rest.join('=') === '') return null;
    keys[id] = rest.join('=');
  }
  return keys;
}
