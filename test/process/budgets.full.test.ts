import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { BILLING_KEY, type Config, configuration, PRIMARY, sha256 } from '../support/gateway.ts';
import { folder, patchgate } from '../support/process.ts';
import { freePort, redisServer, until } from '../support/redis.ts';

const QUOTA = { limit: 1_000_000, ceiling: 900_000, burst: 50_000 };
const operations = (limit: number) => ({ match: ['POST /api/v1/flows/*/start/**'], limit });
const tenants = {
  billing: {
    keys: [{ id: 'now', sha256: sha256(BILLING_KEY) }],
    quota: { burst: 10_000, rate: 900_000, maxWait: '30s' },
  },
};

async function world(more: Config, limit: number) {
  const simulator = await createSimulator({
    // Each response takes a moment, so that a kill comes in the middle.
    switches: { limit: QUOTA.limit, responseLatency: { kind: 'uniform', minMs: 5, maxMs: 50 } },
  });
  const files = await folder({});
  const config = configuration(simulator.url, {
    accounts: { main: { quota: QUOTA, credentials: [PRIMARY], budgets: { operations: operations(limit) } } },
    // A busy machine answers late.
    upstreams: { core: { origin: simulator.url }, start: { origin: simulator.url } },
    tenants,
    ...more,
  });
  const serve = async (file = 'gateway.yaml', change: Config = {}) => {
    await writeFile(join(files.path, file), JSON.stringify({ ...config, ...change }));
    return patchgate(['serve', '--config', file], { cwd: files.path });
  };
  const arrived = () => simulator.arrivals().filter(({ method }) => method === 'POST').length;
  return {
    ...{ simulator, serve, arrived, path: files.path },
    async [Symbol.asyncDispose]() {
      await simulator.close();
      await files[Symbol.asyncDispose]();
    },
  };
}

const headers = { 'X-API-Key': BILLING_KEY, 'Content-Type': 'application/json' };
/** The status, or 0 where the connection broke. */
async function start(port: number): Promise<number> {
  try {
    const body = '{"payload":"x"}';
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/flows/1/start`, { method: 'POST', headers, body });
    await response.arrayBuffer();
    return response.status;
  } catch {
    return 0;
  }
}
async function used(port: number): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}/_gateway/whoami`, { headers });
  return ((await response.json()) as { budgets: { operations: { used: number } } }).budgets.operations.used;
}

test('an embedded gateway that is killed and started again has lost at most a second of its counts', async () => {
  await using files = await folder({});
  await using it = await world({ stateDir: files.path }, 1_000_000);
  const sentAt: number[] = [];
  {
    await using first = await it.serve();
    const { traffic } = await first.listening();
    // Until some of it is in the file; the kill then comes in the middle of writes.
    const counted = async () => /operations":[1-9]/.test(await readFile(join(files.path, 'budgets.json'), 'utf8'));
    const began = performance.now();
    while (performance.now() - began < 2_500 || !(await counted())) {
      if ((await start(traffic)) === 200) sentAt.push(performance.now());
    }
    first.child.kill('SIGKILL');
    await first.exited;
  }
  const killedAt = performance.now();
  await using second = await it.serve();
  const { traffic } = await second.listening();
  const kept = await used(traffic);
  expect(sentAt.length).toBeGreaterThan(20);
  expect(kept).toBeGreaterThanOrEqual(sentAt.filter((at) => at < killedAt - 1_000).length);
  expect(kept).toBeLessThanOrEqual(it.arrived());
  // A regular end loses nothing.
  expect(await start(traffic)).toBe(200);
  second.child.kill('SIGINT');
  expect(await second.exited).toEqual({ code: 0, signal: null });
  await using third = await it.serve();
  expect(await used((await third.listening()).traffic)).toBe(kept + 1);
});

test('a damaged file of counts keeps the gateway from starting, and stays as it is', async () => {
  await using files = await folder({ 'budgets.json': '{"version":1,"acc' });
  await using it = await world({ stateDir: files.path }, 10);
  await using gateway = await it.serve();
  expect(await gateway.exited).toEqual({ code: 1, signal: null });
  expect(gateway.stderr()).toContain('budgets.json is damaged: it is not JSON. Restore the file, or remove it');
  expect(await readFile(join(files.path, 'budgets.json'), 'utf8')).toBe('{"version":1,"acc');
});

test('a start without stateDir says that budgets begin at 0 after each restart', async () => {
  await using it = await world({}, 10);
  await using gateway = await it.serve();
  await gateway.listening();
  expect(gateway.stdout()).toContain('stateDir is not set: the counts of budgets begin at 0 after each restart');
});

test('three replicas send a budget of 40 of 100 starts at once, though Redis is killed midway and comes back empty', async () => {
  await using redis = await redisServer();
  const ports = await Promise.all([1, 2, 3].map(freePort));
  await using it = await world({ redis: { url: redis.url, timeout: '1s' } }, 40);
  const listen = (port: number) => ({
    listen: { traffic: { host: '127.0.0.1', port }, admin: { host: '127.0.0.1', port: 0 } },
  });
  const serve = async (index: number) => {
    const gateway = await it.serve(`gateway${index}.yaml`, listen(ports[index]!));
    await gateway.listening();
    return gateway;
  };
  await using first = await serve(0);
  await using second = await serve(1);
  await using third = await serve(2);
  const replicas = [first, second, third];
  const read = { 'X-API-Key': BILLING_KEY, Prefer: 'wait=20' };
  for (const port of ports) await (await fetch(`http://127.0.0.1:${port}/api/v1/flow-runs`, { headers: read })).text();
  await until('all know of each other', async () => {
    const members = await redis.client().hget('patchgate:{main}:quota', 'members');
    return Object.values(JSON.parse(members ?? '{}') as Record<string, { share: number }>).length === 3;
  });
  const all: Promise<number>[] = [];
  const send = (count: number) => {
    for (let i = 0; i < count; i++) all.push(start(ports[all.length % 3]!));
  };
  send(20);
  await until('some have arrived', async () => it.arrived() > 5);
  send(80);
  await redis.kill();
  await redis.start();
  const statuses = await Promise.all(all);
  // A replica that a busy machine stops for longer than a new state waits for it may have sent its part besides.
  expect(it.arrived()).toBeLessThanOrEqual(40 + Math.floor(40 / 3));
  expect(it.arrived()).toBeGreaterThan(10);
  expect(statuses.filter((status) => status === 200)).toHaveLength(it.arrived());
  // 503: Redis was away for longer than a request waits for it.
  expect(statuses.every((status) => [200, 429, 503].includes(status))).toBe(true);
  // A charge that Redis made as it died, and that another replica has seen, stays counted although nothing was sent.
  await until('all replicas show what was sent', async () => {
    const counts = await Promise.all(ports.map(used));
    return counts.every((each) => each === counts[0] && each >= it.arrived());
  });
  expect(replicas.every(({ child }) => child.exitCode === null)).toBe(true);
}, 60_000);
