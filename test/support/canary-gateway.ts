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
export const CALLBACK = canary('callback');
export const WEBHOOK = canary('webhook');
/** Callers send these in a query: a signature that is refused, and variables of a run that pass. */
export const SENT_SIGNATURE = canary('sentsignature');
export const VARIABLES = canary('variables');
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
  ...[FOR_ISSUER, CALLBACK, WEBHOOK, SENT_SIGNATURE, VARIABLES],
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
    triggers: [
      { kind: 'callback', path: 'acme/42', signature: CALLBACK.value, flow: 1 },
      { kind: 'webhook', path: 'acme/41', signature: WEBHOOK.value, flow: 1 },
    ],
  });
  const hooks = simulator.triggers;
  if (hooks === null) throw new Error('no webhooks');
  // A collector that refuses, and repeats the key it was sent.
  const traces: string[] = [];
  const collector = createServer((incoming, outgoing) => {
    incoming.setEncoding('latin1').on('data', (piece: string) => traces.push(piece));
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
  const hooksAccount = {
    quota,
    credentials: [
      { id: 'callback', header: { name: 'patchworks-signature', value: '${file:callback}' } },
      { id: 'webhook', query: { name: 'patchworks_signature', value: '${WEBHOOK}' } },
    ],
  };
  const loginAlone = (id: string): Config => ({
    accounts: { main: { quota, credentials: [login(id)] }, hooks: hooksAccount },
  });
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
        hooks: hooksAccount,
      },
      upstreams: {
        // Every fault is to be met, whatever came before it.
        core: { account: 'main', origin: simulator.url, timeout: '300ms', breaker: { enabled: false } },
        start: { account: 'main', origin: simulator.url, timeout: '300ms' },
        closed: { account: 'main', origin: 'http://127.0.0.1:1', timeout: '300ms' },
        callbacks: { account: 'hooks', origin: hooks.callbacks, timeout: '300ms', breaker: { enabled: false } },
        webhooks: { account: 'hooks', origin: hooks.webhooks, timeout: '300ms', breaker: { enabled: false } },
      },
      routes: [
        { match: '* /callbacks/orders', upstream: 'callbacks', rewrite: '/api/v1/acme/42', credential: 'callback' },
        { match: '* /webhooks/stock', upstream: 'webhooks', rewrite: '/api/v1/acme/41', credential: 'webhook' },
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
        billing: { accounts: ['main', 'hooks'], keys: [{ id: 'now', sha256: sha256(TENANT.value) }], quota: room },
        other: {
          account: 'main',
          keys: [{ id: 'now', sha256: sha256(OTHER.value) }],
          allow: ['GET /api/v1/flows'],
          quota: room,
        },
        worker: { account: 'main', identities: [{ issuer: 'sim', subject: 'canary-worker' }], quota: room },
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
    callback: CALLBACK.value,
  });
  const env = { LOG_LEVEL: 'trace', API_KEY: APIKEY.value, ADMIN_TOKEN: ADMIN.value, WEBHOOK: WEBHOOK.value };
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
    ...{ redis, simulator, settings, loginAlone, files, env, process, shown, traces },
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
