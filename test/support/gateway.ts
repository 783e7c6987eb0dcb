import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import type { Clock } from '../../src/clock.ts';
import { loadSettings, renderProblems } from '../../src/config/load.ts';
import { createGateway } from '../../src/gateway/gateway.ts';
import type { Simulator } from '../../src/simulator/control.ts';
import {
  FAKE_PASSWORD,
  FAKE_PRIMARY_KEY,
  FAKE_SPARE_KEY,
  FAKE_USER,
  type SimulatorOptions,
} from '../../src/simulator/options.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { ManualClock } from './manual-clock.ts';
import type { TlsTunnel } from './tls-tunnel.ts';

export const BILLING_KEY = 'pgk_billing_fake-key-for-tests';
export const READER_KEY = 'pgk_reader_fake-key-for-tests';
export const EXPIRED_KEY = 'pgk_billing_fake-expired-key';
export const DISABLED_KEY = 'pgk_disabled_fake-key';

/** Asks for reloads in tests. */
export const TEST = { actor: 'test', address: null };

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Parts of gateway.yaml, as data; what is not given is as in {@link configuration}. */
export type Config = Record<string, unknown>;

export interface Running {
  readonly url: string;
  readonly adminUrl: string;
  readonly port: number;
  readonly simulator: Simulator;
  /** Lines of the log so far, parsed. */
  readonly logs: () => Record<string, unknown>[];
  readonly logText: () => string;
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** Value of a metric with these labels; the sum if several series match. */
  metric(name: string, labels?: Record<string, string>): Promise<number>;
  /** Takes over another configuration, as SIGHUP does. */
  reload(config: (upstream: string) => Config): Promise<void>;
  drain(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface RunOptions {
  readonly config?: (upstream: string) => Config;
  readonly simulator?: SimulatorOptions;
  /** A running simulator that several gateways share; the test closes it. */
  readonly upstream?: Simulator;
  readonly clock?: Clock;
  readonly random?: () => number;
  readonly env?: Record<string, string>;
  /** Contents of files that the configuration names. */
  readonly files?: (path: string) => string | undefined;
  /** Callers go through it, to a traffic port that speaks TLS. */
  readonly tlsTunnel?: TlsTunnel;
  /**
   * Embedded state starts with an empty bucket and one request, whose answer fills it. Unless a test is about that, the
   * one request is sent before it begins, and forgotten by the simulator's record.
   */
  readonly cold?: boolean;
}

/** A plain tenant with a bucket no test runs into by accident, a reader with a small one, and two whose keys do not work. */
export const TENANTS = {
  billing: {
    keys: [
      { id: 'now', sha256: sha256(BILLING_KEY) },
      { id: 'old', sha256: sha256(EXPIRED_KEY), expires: '2020-01-01T00:00:00Z' },
    ],
    // Refused at once: a test that is about waiting says so.
    quota: { burst: 200, maxWait: '0s' },
  },
  reader: {
    keys: [{ id: 'only', sha256: sha256(READER_KEY) }],
    allow: ['GET /api/v1/**'],
    quota: { rate: 30, burst: 5, maxWait: '0s' },
  },
  disabled: { disabled: true, keys: [{ id: 'only', sha256: sha256(DISABLED_KEY) }] },
};

export const PRIMARY = { id: 'primary', apiKey: FAKE_PRIMARY_KEY };
export const SPARE = { id: 'spare', apiKey: FAKE_SPARE_KEY };
export const loginAt = (upstream: string) => ({
  id: 'login',
  login: { url: `${upstream}/fabric/api/login`, username: FAKE_USER, password: FAKE_PASSWORD },
});

export function configuration(upstream: string, { redis, ...more }: Config = {}): Config {
  return {
    listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
    accounts: { main: { quota: { burst: 200 }, credentials: [PRIMARY, SPARE] } },
    upstreams: { core: { origin: upstream, timeout: '2s' }, start: { origin: upstream, timeout: '2s' } },
    routes: [
      { match: 'POST /api/v1/flows/*/start/**', upstream: 'start' },
      { match: 'GET /api/v1/payload-metadata/*/download', upstream: 'core' },
      { match: '* /api/v1/**', upstream: 'core' },
      { match: '* /api/v2/**', upstream: 'core' },
    ],
    log: { level: 'info' },
    tenants: TENANTS,
    // A machine that runs other tests too stands still for longer than a command has by default.
    ...(redis !== undefined && { redis: { timeout: '1s', ...(redis as Config) } }),
    ...more,
  };
}

/** Simulator and gateway in this process, on real sockets. Dispose of it: `await using`. */
export async function run(options: RunOptions = {}): Promise<Running> {
  const simulator = options.upstream ?? (await createSimulator(options.simulator));
  const text = JSON.stringify(options.config?.(simulator.url) ?? configuration(simulator.url));
  const loaded = await loadSettings({
    path: 'test.yaml',
    env: options.env ?? {},
    readFile: async (path) => options.tlsTunnel?.file(path) ?? options.files?.(path) ?? text,
  });
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  const lines: string[] = [];
  const gateway = createGateway({
    settings: loaded.settings,
    logTo: { write: (line) => void lines.push(line) },
    ...(options.clock && { clock: options.clock }),
    ...(options.random && { random: options.random }),
  });
  const started = await gateway.start();
  if (!started.ok) throw new Error(started.reason);
  const url = (await options.tlsTunnel?.open(started.traffic.port)) ?? `http://127.0.0.1:${started.traffic.port}`;
  const adminUrl = `http://127.0.0.1:${started.admin.port}`;
  if (!options.cold) {
    // A Redis that was empty waits for other replicas first.
    const headers = { 'X-API-Key': BILLING_KEY, Prefer: 'wait=10' };
    const warmUp = async () => (await fetch(`${url}/api/v1/notifications`, { headers })).arrayBuffer();
    await warmUp();
    // The first response reaches Redis shortly after the caller.
    if (loaded.settings.redis !== null) await warmUp();
    simulator.reset();
    lines.length = 0;
  }
  let closed = false;
  return {
    url,
    adminUrl,
    port: started.traffic.port,
    simulator,
    logText: () => lines.join(''),
    logs: () => lines.map((line) => JSON.parse(line)),
    fetch: (path, init = {}) =>
      fetch(`${url}${path}`, {
        redirect: 'manual',
        ...init,
        headers: { Authorization: `Bearer ${BILLING_KEY}`, ...(init.headers as Record<string, string> | undefined) },
      }),
    metric: async (name, labels = {}) => sumOf(await (await fetch(`${adminUrl}/metrics`)).text(), name, labels),
    reload: async (config) => {
      const changed = JSON.stringify(config(simulator.url));
      const readFile = async (path: string) => options.tlsTunnel?.file(path) ?? options.files?.(path) ?? changed;
      const next = await loadSettings({ path: 'test.yaml', env: {}, readFile });
      if (next.ok) gateway.reload(next.settings, [TEST]);
      else gateway.refuseReload(renderProblems(next.problems).split('\n'), [TEST]);
    },
    drain: async () => {
      closed = true;
      await gateway.drain({ signal: 'SIGTERM', withDelay: true });
    },
    async [Symbol.asyncDispose]() {
      if (!closed) await gateway.close();
      if (options.upstream === undefined) await simulator.close();
    },
  };
}

function sumOf(text: string, name: string, labels: Record<string, string>): number {
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
    .filter((line) => Object.entries(labels).every(([label, value]) => line.includes(`${label}="${value}"`)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

/** Resolves when the condition holds; fails after twenty seconds. Polls with real time: sockets have no other. */
export async function eventually(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`did not happen within 20 s: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A header of an arrival, by any spelling; undefined if it did not get there. */
export function arrived(headers: readonly string[], name: string): string | undefined {
  const index = headers.findIndex((item, at) => at % 2 === 0 && item.toLowerCase() === name.toLowerCase());
  return index === -1 ? undefined : headers[index + 1];
}

/** The problem code of a rejection. */
export async function codeOf(response: Response): Promise<string> {
  return ((await response.json()) as { code: string }).code;
}

/** Longer than a slot is held, including one whose request may still arrive. */
const EVERY_SLOT_IS_OVER_MS = 10 * 60_000;

export interface CheckedGateway extends Running {
  /** Expects that the gateway serves the next request, has none in flight, holds no slot, and has logged no error. */
  expectUnharmed(): Promise<void>;
}

/** A gateway on a manual clock: after ten minutes, a slot that is still held was leaked. */
export async function runChecked(options: Omit<RunOptions, 'clock'> = {}): Promise<CheckedGateway> {
  const clock = new ManualClock();
  const gateway = await run({ ...options, clock });
  return {
    ...gateway,
    async expectUnharmed() {
      expect((await gateway.fetch('/_gateway/whoami')).status).toBe(200);
      await eventually(async () => (await gateway.metric('patchgate_http_requests_in_flight')) === 0, 'none in flight');
      clock.advance(EVERY_SLOT_IS_OVER_MS);
      expect(await gateway.metric('patchgate_quota_slots_in_use')).toBe(0);
      expect(gateway.logs().filter((line) => line['level'] === 'error')).toEqual([]);
    },
  };
}
