// A gateway with some tenants and entries, on a Redis of its own; and what is asked of it.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { basename, join } from 'node:path';
import { Redis } from 'ioredis';
import { Pool } from 'undici';
import { end, freePort, MAIN, scratch, start, startRedis } from '../../chaos/rig.mjs';
import { scrape } from '../../soak/sampler.mjs';

const MB = 1024 * 1024;
const HERTZ = 100;
const FILL_CONNECTIONS = 32;
/** Between the requests that find out how long a reload holds up others. */
const PROBE_MS = 5;
const keyOf = (/** @type {number} */ i) => `fake-wide-key-${i}`;
const sha256 = (/** @type {string} */ text) => createHash('sha256').update(text).digest('hex');

/** Answers each path with some 900 bytes of its own: what is measured here is not the upstream. */
export async function startOrigin() {
  const filling = 'x'.repeat(850);
  const server = createServer((incoming, outgoing) => {
    outgoing.setHeader('content-type', 'application/json');
    outgoing.end(JSON.stringify({ data: { path: incoming.url, filling } }));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(null)));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** @param {{ tenants: number, entries: number, origin: string }} spec */
export async function openWorld({ tenants, entries, origin }) {
  const port = await freePort();
  const redis = await startRedis(port);
  const file = join(scratch, `wide-${tenants}.json`);
  const tenantsFile = join(scratch, `wide-tenants-${tenants}.yaml`);
  writeFileSync(file, JSON.stringify(configuration(origin, port, basename(tenantsFile))));
  writeFileSync(tenantsFile, tenantsYaml(tenants, 1));
  const checkMs = await timed(async () => {
    const { status, stderr } = spawnSync(process.execPath, [MAIN, 'check', '--config', file], { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
  });
  const begunAt = performance.now();
  const { child, traffic, admin } = await startGateway(file);
  const startMs = performance.now() - begunAt;
  const client = new Redis({ port });
  const url = `http://127.0.0.1:${traffic.port}`;
  return {
    ...{ tenants, entries, url, checkMs, startMs, child, tenantsFile },
    admin: `http://127.0.0.1:${admin.port}`,
    configBytes: statSync(file).size + statSync(tenantsFile).size,
    pool: new Pool(url, { connections: 1 }),
    reloads: 1,
    async memory() {
      const [values, info, redisKeys] = await Promise.all([
        scrape(`http://127.0.0.1:${admin.port}`),
        client.info('memory'),
        client.dbsize(),
      ]);
      return {
        rssMb: Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1] ?? 0) / 1024,
        heapMb: (values.get('nodejs_heap_size_used_bytes') ?? 0) / MB,
        redisMb: Number(/used_memory:(\d+)/.exec(info)?.[1] ?? 0) / MB,
        redisKeys,
        entries: values.get('patchgate_cache_entries') ?? 0,
      };
    },
    async close() {
      client.disconnect();
      await end(child, 'SIGTERM');
      await end(redis);
    },
  };
}

/** @typedef {Awaited<ReturnType<typeof openWorld>>} World */

/** @param {string} origin @param {number} redisPort @param {string} tenantsFile */
function configuration(origin, redisPort, tenantsFile) {
  return {
    listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
    redis: { url: `redis://127.0.0.1:${redisPort}`, timeout: '1s' },
    accounts: {
      main: {
        quota: { limit: 2_000_000, ceiling: 1_900_000, burst: 100_000 },
        credentials: [{ id: 'primary', apiKey: 'fake-patchworks-key-primary' }],
      },
    },
    upstreams: { core: { origin }, start: { origin } },
    cache: { memory: '1GiB', rules: [{ match: 'GET /api/v1/**', ttl: '24h' }] },
    drain: { delay: '0s', timeout: '5s' },
    reload: { watch: false },
    tenantsFile,
  };
}

/** As people write it. @param {number} count @param {number} rate of the first: what a reload changes */
function tenantsYaml(count, rate) {
  const each = (/** @type {number} */ i) => `  tenant-${i}:
    keys:
      - { id: 2026-11, sha256: "${sha256(keyOf(i))}", expires: 2099-01-01T00:00:00Z }
    allow: ["GET /api/v1/**", "POST /api/v1/flows/*/start/**"]
    quota: { rate: ${i === 0 ? 100_000 + rate : 100_000}, burst: 1000 }`;
  return ['tenants:', ...Array.from({ length: count }, (_, i) => each(i)), ''].join('\n');
}

/** @param {string} file */
async function startGateway(file) {
  const child = start(process.execPath, [MAIN, 'serve', '--config', file]);
  let said = '';
  const line = await new Promise((/** @type {(line: string) => void} */ resolve, reject) => {
    child.once('exit', () => reject(new Error(`the gateway does not start: ${said}`)));
    const listen = (/** @type {unknown} */ chunk) => {
      // Access lines come later and are not needed.
      if (said.length < 10_000) said += String(chunk);
      const found = /^\{.*"msg":"listening".*\}$/m.exec(said)?.[0];
      if (found !== undefined) resolve(found);
    };
    child.stdout?.on('data', listen);
    child.stderr?.on('data', listen);
  });
  return { child, .../** @type {{ traffic: { port: number }, admin: { port: number } }} */ (JSON.parse(line)) };
}

const pathOf = (/** @type {number} */ i) => `/api/v1/systems/1?n=${i}`;

/** @param {World} world @param {import('undici').Dispatcher} pool @param {number} entry @param {number} tenant */
async function ask({ tenants }, pool, entry, tenant) {
  const headers = { 'x-api-key': keyOf(tenant % tenants) };
  const { statusCode, headers: answered, body } = await pool.request({ method: 'GET', path: pathOf(entry), headers });
  await body.dump();
  if (statusCode !== 200) throw new Error(`answered ${statusCode}`);
  return String(answered['cache-status']);
}

/** Each entry once, by one tenant after the other. @param {World} world */
export async function fill(world) {
  const pool = new Pool(world.url, { connections: FILL_CONNECTIONS });
  let next = 0;
  await Promise.all(
    Array.from({ length: FILL_CONNECTIONS }, async () => {
      for (let i = next++; i < world.entries; i = next++) await ask(world, pool, i, i);
    }),
  );
  await pool.close();
}

/** Sends hits in sequence on one connection, for random entries and tenants. @param {World} world @param {number} count */
export async function hits(world, count) {
  /** @type {number[]} */
  const ms = [];
  const before = cpuMs(world);
  for (let i = 0; i < count; i++) {
    const [entry, tenant] = [world.entries, world.tenants].map((most) => Math.floor(Math.random() * most));
    const from = performance.now();
    const status = await ask(world, world.pool, entry ?? 0, tenant ?? 0);
    ms.push(performance.now() - from);
    if (!status.includes('hit')) throw new Error(`no hit: ${status}`);
  }
  return { ms, cpuUs: ((cpuMs(world) - before) * 1000) / count };
}

/** @param {World} world */
function cpuMs({ child }) {
  const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / HERTZ;
}

/** @param {World} world @param {string} path */
export async function readings({ admin }, path) {
  let bytes = 0;
  const ms = await timed(async () => {
    bytes = (await (await fetch(`${admin}${path}`)).arrayBuffer()).byteLength;
  });
  return { ms, bytes };
}

/** Changes a tenant while hits are requested. @param {World} world */
export async function reload(world) {
  world.reloads += 1;
  writeFileSync(world.tenantsFile, tenantsYaml(world.tenants, world.reloads));
  let longestHitMs = 0;
  let going = true;
  const probing = (async () => {
    while (going) {
      longestHitMs = Math.max(longestHitMs, await timed(() => ask(world, world.pool, 0, 1)));
      await new Promise((resolve) => setTimeout(resolve, PROBE_MS));
    }
  })();
  const ms = await timed(async () => {
    const answer = await fetch(`${world.admin}/reload`, { method: 'POST' });
    const { changed } = /** @type {{ changed?: string[] }} */ (await answer.json());
    if (changed?.length !== 1) throw new Error(`the reload changed ${JSON.stringify(changed)}`);
  });
  going = false;
  await probing;
  return { ms, longestHitMs };
}

/** @param {() => Promise<unknown>} run */
async function timed(run) {
  const from = performance.now();
  await run();
  return performance.now() - from;
}
