import { createServer } from 'node:http';
import { createSimulator } from '../../src/simulator/simulator.ts';
import type { Canary } from './canaries.ts';
import { type Config, configuration, sha256 } from './gateway.ts';
import { folder, patchgate } from './process.ts';
import { redisServer } from './redis.ts';

/** With what encodings change: quotes, slashes, plus, percent, non-ASCII where it is allowed. */
const canary = (name: string, tail = ''): Canary => ({ name, value: `Canary-${name}-9Zk7/q+x=${tail}` });
export const APIKEY = canary('apikey');
export const SPARE = canary('spare');
export const PASSWORD = canary('password', '"\\ü&%?');
export const TENANT = canary('tenant');
export const OTHER = canary('othertenant');
export const GUESS = canary('guess');
export const ADMIN = canary('admin');
export const METRICS = canary('metrics');
export const WRONG_ADMIN = canary('wrongadmin');
export const REDIS = canary('redispassword');
export const TRACING = canary('tracing', '"\\&%?');
export const NEW = canary('newinfile', '"\\&%?');
export const FOR_ISSUER: Canary = { name: 'issuertoken', value: 'Canary-issuertoken-9Zk7/q+x=' };
/** As `key create` made it, and since removed: its tenant and eight digits of its digest are logged. */
export const REMOVED: Canary = {
  name: 'removed',
  value: `pgk_billing_${'Canary-removed-9Zk7_'.repeat(3).slice(0, 43)}`,
};
/** No more of a digest than eight digits. */
const digests = [TENANT, OTHER, GUESS, REMOVED].map(
  ({ name, value }): Canary => ({ name: `digest of ${name}`, value: sha256(value).slice(0, 9) }),
);
export const CANARIES = [
  ...[APIKEY, SPARE, PASSWORD, TENANT, OTHER, GUESS, REMOVED, ADMIN, METRICS, WRONG_ADMIN, REDIS, TRACING, NEW],
  FOR_ISSUER,
  ...digests,
];
export const USER = 'integrations@example.test';

/** The built program with a canary in the place of every secret, and with everything it talks to. */
export async function canaryGateway() {
  const redis = await redisServer({ args: ['--requirepass', REDIS.value], password: REDIS.value });
  const quota = { limit: 100_000, ceiling: 90_000, burst: 90_000 };
  const simulator = await createSimulator({
    apiKeys: { primary: APIKEY.value, spare: SPARE.value },
    users: { [USER]: PASSWORD.value },
    switches: { limit: 100_000 },
  });
  // A collector that refuses, and repeats the key it was sent.
  const collector = createServer((incoming, outgoing) => {
    incoming.resume();
    outgoing.writeHead(400, { 'Content-Type': 'text/plain' }).end(`no: ${JSON.stringify(incoming.headers)}`);
  });
  await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve));
  const { port: collectorPort } = collector.address() as { port: number };
  const local = { host: '127.0.0.1', port: 0 };
  const room = { rate: 90_000, burst: 90_000, maxWait: '0s' };
  const login = (id: string) => ({
    id,
    login: { url: `${simulator.url}/fabric/api/login`, username: USER, password: '${file:password}' },
  });
  const loginAlone = (id: string): Config => ({ accounts: { main: { quota, credentials: [login(id)] } } });
  const settings = (more: Config = {}): Config =>
    configuration(simulator.url, {
      listen: {
        traffic: local,
        admin: {
          ...local,
          token: '${ADMIN_TOKEN}',
          tokens: [{ id: 'prometheus', token: '${file:metrics-token}', role: 'metrics' }],
        },
        trustedProxies: [],
      },
      redis: { url: `redis://127.0.0.1:${redis.port}`, password: '${file:redis-password}', timeout: '200ms' },
      accounts: {
        main: {
          quota,
          credentials: [
            { id: 'primary', apiKey: '${API_KEY}' },
            { id: 'spare', apiKey: '${file:spare-key}' },
            login('login'),
          ],
        },
      },
      upstreams: {
        // Every fault is to be met, whatever came before it.
        core: { origin: simulator.url, timeout: '300ms', breaker: { enabled: false } },
        start: { origin: simulator.url, timeout: '300ms' },
        closed: { origin: 'http://127.0.0.1:1', timeout: '300ms' },
      },
      routes: [
        { match: '* /api/v2/**', upstream: 'closed' },
        { match: '* /api/v1/**', upstream: 'core' },
      ],
      cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '10m' }] },
      identity: {
        issuers: {
          sim: {
            ...{ issuer: simulator.url, audience: 'patchgate' },
            jwks: { url: `${simulator.url}/_simulator/jwks`, tokenFile: 'issuer-token' },
          },
        },
      },
      limits: { failedAuth: 1_000, body: '4KiB' },
      tracing: {
        endpoint: `http://127.0.0.1:${collectorPort}/v1/traces`,
        headers: { 'X-Collector-Key': '${file:tracing}' },
        sample: 1,
      },
      drain: { delay: '0s', timeout: '2s' },
      reload: { watch: false },
      tenants: {
        billing: { keys: [{ id: 'now', sha256: sha256(TENANT.value) }], quota: room },
        other: { keys: [{ id: 'now', sha256: sha256(OTHER.value) }], allow: ['GET /api/v1/flows'], quota: room },
        worker: { identities: [{ issuer: 'sim', subject: 'canary-worker' }], quota: room },
      },
      ...more,
    });
  const files = await folder({
    'gateway.yaml': JSON.stringify(settings()),
    'redis-password': REDIS.value,
    'metrics-token': METRICS.value,
    'spare-key': `${SPARE.value}\n`,
    password: PASSWORD.value,
    tracing: TRACING.value,
    new: NEW.value,
    'issuer-token': FOR_ISSUER.value,
  });
  const env = { LOG_LEVEL: 'trace', API_KEY: APIKEY.value, ADMIN_TOKEN: ADMIN.value };
  const process = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path, env });
  const ports = await process.listening();
  /** All response headers and bodies so far. */
  const shown: string[] = [];
  const ask = async (port: number, path: string, init: RequestInit): Promise<number> => {
    try {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, {
        redirect: 'manual',
        signal: AbortSignal.timeout(5_000),
        ...init,
      });
      shown.push(JSON.stringify([...response.headers]));
      for await (const piece of response.body ?? []) shown.push(Buffer.from(piece).toString('latin1'), '\n');
      return response.status;
    } catch {
      // Cut off, or never ending: what came so far has been kept.
      return 0;
    }
  };
  return {
    ...{ redis, simulator, settings, loginAlone, files, env, process, shown },
    traffic: (path: string, init: RequestInit = {}) =>
      ask(ports.traffic, path, {
        ...init,
        headers: { Authorization: `Bearer ${TENANT.value}`, ...(init.headers as Record<string, string>) },
      }),
    admin: (path: string, init: RequestInit = {}) =>
      ask(ports.admin, path, {
        ...init,
        headers: { Authorization: `Bearer ${ADMIN.value}`, ...(init.headers as Record<string, string>) },
      }),
    async [Symbol.asyncDispose]() {
      await process[Symbol.asyncDispose]();
      collector.closeAllConnections();
      collector.close();
      await files[Symbol.asyncDispose]();
      await simulator.close();
      await redis[Symbol.asyncDispose]();
    },
  };
}
export type CanaryGateway = Awaited<ReturnType<typeof canaryGateway>>;
