import { parseDuration } from '../config/option-types.ts';
import type { Simulator } from '../simulator/control.ts';
import type { Switches } from '../simulator/options.ts';
import { FAKE_PASSWORD, FAKE_PRIMARY_KEY, FAKE_USER, isTier, TIERS } from '../simulator/options.ts';
import { createSimulator } from '../simulator/simulator.ts';
import { FAKE_TRIGGERS } from '../simulator/trigger-options.ts';
import { failed, type Io, type OptionValues, readOptions, releaseEarlySignals, say } from './command-line.ts';

const HELP = `usage: patchgate simulate [options]

Runs a stand-in for the Patchworks API until Ctrl-C: core, start and login behind one port.

  --port N           (default: 4010; 0 takes any free one)
  --host ADDRESS     (default: 127.0.0.1)
  --limit N          requests in a window of 60 s (default: 240)
  --tier TIER        growth, professional or enterprise: operations in a month (default: growth)
  --operations N     operations in a month in place of those of the tier
  --scope SCOPE      count requests by account or by key (default: account)
  --latency TIME     mean latency of responses, such as 80ms (default: none)
  --api-key ID=KEY   accept this key; repeatable (default: a fake key)
  --triggers PORT    webhooks on this port, callbacks on the next one (default: none; 0 takes any free ones)
`;

const OPTIONS = {
  port: { type: 'string' },
  host: { type: 'string' },
  limit: { type: 'string' },
  tier: { type: 'string' },
  operations: { type: 'string' },
  scope: { type: 'string' },
  latency: { type: 'string' },
  triggers: { type: 'string' },
  'api-key': { type: 'string', multiple: true },
} as const;

/** `patchgate simulate`. */
export async function simulate(args: string[], io: Io): Promise<number> {
  const options = readOptions('simulate', args, OPTIONS, HELP, io);
  if (!options.ok) return options.code;
  const settings = settingsOf(options.values);
  if (typeof settings === 'string') return failed(io, 'simulate', settings, 2);
  const { port, host, apiKeys, switches, triggers } = settings;
  try {
    const simulator = await createSimulator({
      port,
      host,
      ...(apiKeys !== undefined && { apiKeys }),
      ...(triggers !== null && {
        triggers: FAKE_TRIGGERS,
        triggerPorts: { webhooks: triggers, callbacks: triggers === 0 ? 0 : triggers + 1 },
      }),
      switches,
    });
    // Before the banner: a script may send a signal as soon as it reads the banner.
    const stopped = new Promise<void>((resolve) => {
      process.once('SIGINT', resolve);
      process.once('SIGTERM', resolve);
      releaseEarlySignals();
    });
    say(io.stdout, banner(simulator, apiKeys === undefined));
    await stopped;
    await simulator.close();
    return 0;
  } catch (error) {
    const inUse = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
    const reason = inUse ? 'is in use by another process' : 'cannot be used';
    return failed(io, 'simulate', `the port ${host}:${port} ${reason}`);
  }
}

/** The text of the mistake, if there is one. */
function settingsOf(values: OptionValues<typeof OPTIONS>) {
  const port = wholeOf(values.port ?? '4010', 0, 65_535);
  if (port === null) return '--port must be a number from 0 to 65535';
  const triggers = values.triggers === undefined ? null : wholeOf(values.triggers, 0, 65_534);
  if (values.triggers !== undefined && triggers === null) return '--triggers must be a number from 0 to 65534';
  const limit = wholeOf(values.limit ?? '240', 1, 10_000_000);
  if (limit === null) return '--limit must be a whole number from 1';
  const tier = values.tier ?? 'growth';
  if (!isTier(tier)) return `--tier must be one of ${Object.keys(TIERS).join(', ')}`;
  const operations = values.operations === undefined ? undefined : wholeOf(values.operations, 0, 1_000_000_000);
  if (operations === null) return '--operations must be a whole number from 0';
  const latencyMs = values.latency === undefined ? 0 : parseDuration(values.latency);
  if (latencyMs === null) return '--latency must be a duration such as 80ms';
  const scope = values.scope ?? 'account';
  if (scope !== 'account' && scope !== 'key') return '--scope must be account or key';
  const apiKeys = keysOf(values['api-key']);
  if (apiKeys === null) return '--api-key must be given as ID=KEY';
  const responseLatency: Switches['responseLatency'] = {
    kind: 'exponential',
    minMs: latencyMs / 2,
    meanMs: latencyMs,
    maxMs: latencyMs * 10,
  };
  const switches: Partial<Switches> = {
    ...{ limit, tier, operations: operations ?? null, scope },
    ...(latencyMs > 0 && { responseLatency }),
  };
  return { port, host: values.host ?? '127.0.0.1', apiKeys, triggers, switches };
}

function banner(simulator: Simulator, fakeKey: boolean): string {
  const authorization = fakeKey ? FAKE_PRIMARY_KEY : '<your key>';
  const { url } = simulator;
  const terms = Object.values(simulator.accounts()).map(
    ({ limit, operations }) => `limit ${limit} requests in 60 s, ${operations.allowed} operations a month`,
  );
  return `patchgate simulate: a stand-in for Patchworks on ${url}, ${terms.join('; ')}

  curl -si '${url}/api/v1/flows?per_page=2' -H 'Authorization: ${authorization}' -H 'Accept: application/json'
  curl -s ${url}/fabric/api/login -d '{"username":"${FAKE_USER}","password":"${FAKE_PASSWORD}"}'
  curl -s ${url}/_simulator/stats
${triggerLines(simulator)}`;
}

function triggerLines({ triggers }: Simulator): string {
  if (triggers === null) return '';
  const lines = FAKE_TRIGGERS.map(({ kind, path, signature }) => {
    const origin = kind === 'webhook' ? triggers.webhooks : triggers.callbacks;
    return `  curl -si -X POST '${origin}/api/v1/${path}?patchworks_signature=${signature}'\n`;
  });
  return lines.join('');
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
