import {
  type Config,
  configuration,
  loginAt,
  PRIMARY,
  READER_KEY,
  type Running,
  run,
  sha256,
  TENANTS,
} from './gateway.ts';
import { redisServer, until } from './redis.ts';
import { listening } from './tls-gateway.ts';
import { type TlsTunnel, tlsTunnel } from './tls-tunnel.ts';

const LIST = '/api/v1/flow-runs';
const CACHED = '/api/v1/flows';

const TRIAL_KEY = 'pgk_trial_fake-key-for-tests';

/** A certificate and keys that expire, a bucket of two that is refilled within minutes, and a pool whose second credential logs in. */
function eventfulConfig(upstream: string, redis: string, { tls }: TlsTunnel): Config {
  return configuration(upstream, {
    ...listening(tls),
    redis: { url: redis, prefix: 'eventful' },
    accounts: {
      main: {
        quota: { burst: 200 },
        credentials: [PRIMARY, loginAt(upstream)],
        budgets: { operations: { match: ['POST /api/v1/flows/*/start/**'], limit: 1000 } },
      },
    },
    identity: {
      issuers: {
        sim: { issuer: upstream, audience: 'patchgate', jwks: { url: `${upstream}/_simulator/jwks` } },
      },
    },
    cache: { rules: [{ match: `GET ${CACHED}/**`, ttl: '5m' }] },
    tenants: {
      ...TENANTS,
      billing: {
        ...TENANTS.billing,
        budgets: { operations: 500 },
        keys: TENANTS.billing.keys.map((key) => ({ expires: '2100-01-01T00:00:00Z', ...key })),
      },
      reader: { ...TENANTS.reader, quota: { rate: 1, burst: 2, maxWait: '0s' } },
      trial: { keys: [{ id: 'only', sha256: sha256(TRIAL_KEY) }], allow: ['POST /nothing'], enforcement: 'observe' },
    },
  });
}

/**
 * A gateway after the events that its metrics count: hits, rejections, a rejected key and the login in its place, a 429 of
 * the upstream with another limit, a repeated write, a good reload and a bad one. Gauges of moments (in flight, waiting) are
 * at zero again.
 */
export async function runWithAllMetrics(): Promise<Running> {
  const [redis, tls] = await Promise.all([redisServer(), tlsTunnel()]);
  const config = (upstream: string) => eventfulConfig(upstream, redis.url, tls);
  const gateway = await run({ config, tlsTunnel: tls });
  const ask = async (path: string, init: RequestInit = {}): Promise<void> => {
    await (await gateway.fetch(path, init)).arrayBuffer();
  };
  await Promise.all([ask(CACHED), ask(CACHED), ask(CACHED)]);
  await ask(CACHED);
  for (let i = 0; i < 3; i++) await ask(LIST, { headers: { Authorization: READER_KEY } });
  await ask(LIST, { headers: { Authorization: 'pgk_fake-key-of-nobody' } });
  const { issuer, url } = gateway.simulator;
  await ask(LIST, { headers: { Authorization: `Bearer ${issuer.mint({ issuer: url, audience: 'another' })}` } });
  await ask('/nowhere');
  await ask(LIST, { headers: { Authorization: TRIAL_KEY } });
  gateway.simulator.credentials.revokeKey('primary');
  // Three in a row that name the limit.
  for (let i = 0; i < 4; i++) await ask(LIST);
  const start = {
    method: 'POST',
    body: '{}',
    headers: { 'Idempotency-Key': 'once', 'Content-Type': 'application/json' },
  };
  for (let i = 0; i < 2; i++) await ask('/api/v1/flows/1/start', start);
  await gateway.reload(config);
  await gateway.reload(() => ({ nonsense: true }));
  const throttled = {
    kind: 'status',
    status: 429,
    headers: { 'Retry-After': '1', 'X-RateLimit-Limit': '17' },
    body: '',
  } as const;
  gateway.simulator.fault({ match: 'GET /api/v1/**', times: 1, fault: throttled });
  await ask(LIST);
  await until('the replica has heard how the account stands', async () => {
    return (await gateway.metric('patchgate_quota_limit_advertised')) > 0;
  });
  return {
    ...gateway,
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await Promise.all([redis[Symbol.asyncDispose](), tls[Symbol.asyncDispose]()]);
    },
  };
}
