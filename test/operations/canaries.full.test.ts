import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { FAKE_PAYLOAD, FAKE_SECRET } from '../../src/simulator/items.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { BILLING_KEY, PRIMARY, READER_KEY, sha256 } from '../support/gateway.ts';
import { folder, patchgate } from '../support/process.ts';
import { redisServer } from '../support/redis.ts';
import { contentsOf } from '../support/redis-contents.ts';
import { OPERATIONS, type Operation, SECRET_INCLUDES } from './table.ts';

const PRELOAD = fileURLToPath(new URL('../support/memory-search-preload.mjs', import.meta.url));
const NARROW_KEY = 'pgk_narrow_fake-key-for-tests';
/** In every flow, which the default rules store: the search finds what is there. */
const STORED = String.raw`https:\/\/core.wearepatchworks.com\/api\/v1\/flows\/1"`;
const CANARIES = [FAKE_SECRET, FAKE_PAYLOAD];

/** The built program with its default rules and a Redis. */
async function start() {
  const redis = await redisServer();
  const simulator = await createSimulator({ switches: { limit: 1_000_000 } });
  const most = { rate: 90_000, burst: 90_000, maxWait: '10s' };
  const everything = ['GET /api/v1/**', 'POST /api/v1/**', 'GET /api/v1/users/**', 'GET /api/v1/api-keys/**'];
  const tenant = (key: string, allow: string[]) => ({ keys: [{ id: 'now', sha256: sha256(key) }], allow, quota: most });
  const local = { host: '127.0.0.1', port: 0 };
  const config = {
    listen: { traffic: local, admin: local },
    redis: { url: redis.url, timeout: '1s' },
    accounts: {
      main: { quota: { limit: 100_000, ceiling: 90_000, burst: 90_000 }, credentials: [PRIMARY] },
    },
    upstreams: { core: { origin: simulator.url }, start: { origin: simulator.url } },
    limits: { failedAuth: 10_000 },
    tenants: {
      billing: tenant(BILLING_KEY, everything),
      reader: tenant(READER_KEY, everything),
      narrow: tenant(NARROW_KEY, ['GET /api/v1/scripts']),
    },
  };
  const files = await folder({ 'gateway.yaml': JSON.stringify(config) });
  const args = ['serve', '--config', 'gateway.yaml'];
  const process = patchgate(args, { cwd: files.path, env: {}, nodeArgs: ['--import', PRELOAD] });
  const { traffic } = await process.listening();
  return {
    redis,
    async ask(key: string, path: string) {
      const response = await fetch(`http://127.0.0.1:${traffic}/api/v1${path}`, {
        headers: { Authorization: key, Accept: 'application/json' },
        signal: AbortSignal.timeout(20_000),
      });
      const text = Buffer.from(await response.arrayBuffer()).toString('latin1');
      return { path, status: response.status, isSecret: CANARIES.some((canary) => text.includes(canary)) };
    },
    /** How many byte arrays and strings of the process have each text. */
    async search(texts: string[]) {
      process.child.send(texts.map((text) => Buffer.from(text).toString('base64')));
      const [found] = await once(process.child, 'message', { signal: AbortSignal.timeout(20_000) });
      return found as { bytes: number[]; strings: number[] };
    },
    async [Symbol.asyncDispose]() {
      await process[Symbol.asyncDispose]();
      await files[Symbol.asyncDispose]();
      await simulator.close();
      await redis[Symbol.asyncDispose]();
    },
  };
}

const READS = OPERATIONS.filter(({ request }) => request.startsWith('GET'));
const pathOf = ({ request, query }: Operation) =>
  `${request.slice('GET '.length)}${query === undefined ? '' : `?${query}`}`;
const STORED_PATHS = READS.filter(({ stored }) => typeof stored === 'number').map(pathOf);
/** State without data: the runs and schedules themselves, the names of data pools; and lists that no item passes the filter of. */
const WITHOUT_DATA = /^\/(flow-runs|scheduled-flows|data-pool)(\/1)?\/?(\?|$)|filter\[/;
/** Every read of the table, more of their items, what tenants may only read by name, and each secret include on each stored path. */
const PATHS = new Set([
  ...READS.map(pathOf),
  ...['connectors', 'systems', 'connection-pools', 'tracked-data', 'caches', 'cache-step'].map((name) => `/${name}/1`),
  ...['notifications', 'model-notes', 'mcp-servers', 'ai/conversations', 'flow-run-logs'].map((name) => `/${name}/1`),
  ...['/payload-metadata/1', '/flow-version-deployments/virtual-environments/1'],
  ...['/users', '/users/1', '/api-keys', '/api-keys/1'],
  ...STORED_PATHS.filter((path) => !path.includes('?')).flatMap((path) =>
    SECRET_INCLUDES.map((query) => `${path}?${query}`),
  ),
]);

test('no secret and no customer data is kept in memory or Redis, or reaches a tenant that may not read it', async () => {
  await using gateway = await start();
  const answers: Awaited<ReturnType<typeof gateway.ask>>[] = [];
  for (const path of PATHS) {
    // At the same time, so that one could wait for the other; then again, when the first is over.
    answers.push(...(await Promise.all([BILLING_KEY, READER_KEY].map((key) => gateway.ask(key, path)))));
    answers.push(await gateway.ask(READER_KEY, path));
  }
  expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
  const paths = (isSecret: boolean) =>
    new Set(answers.filter((each) => each.isSecret === isSecret).map((each) => each.path));
  // All others had a canary.
  expect([...paths(false)].filter((path) => !STORED_PATHS.includes(path) && !WITHOUT_DATA.test(path))).toEqual([]);
  expect(STORED_PATHS.filter((path) => paths(true).has(path))).toEqual([]);

  const forbidden = await Promise.all([...PATHS].map((path) => gateway.ask(NARROW_KEY, path)));
  const allowed = forbidden.filter(({ status }) => status !== 403);
  expect(allowed.every(({ path, status }) => /^\/scripts(\?|$)/.test(path) && status === 200)).toBe(true);
  expect(forbidden.filter((each) => each.isSecret && each.status === 403)).toEqual([]);

  // The last bytes of connections are those of a definition.
  for (let i = 0; i < 20; i++) await gateway.ask(BILLING_KEY, '/flows/1?fields[flows]=callback_url');
  const { bytes, strings } = await gateway.search([...CANARIES, STORED]);
  const redis = await contentsOf(gateway.redis.client());
  const kept = CANARIES.map((canary, index) => ({
    canary,
    ...{ bytes: bytes[index], strings: strings[index], inRedis: redis.includes(canary) },
  }));
  expect(kept).toEqual(CANARIES.map((canary) => ({ canary, bytes: 0, strings: 0, inRedis: false })));
  expect([(bytes[2] ?? 0) > 0, redis.includes(STORED)]).toEqual([true, true]);
}, 120_000);
