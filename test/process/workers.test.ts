import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { describe, expect, test } from 'vitest';
import type { StatusDocument } from '../../src/edge/status-document.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { authority } from '../support/authority.ts';
import { listenTo } from '../support/events.ts';
import { scrape } from '../support/exposition.ts';
import { BILLING_KEY, configuration, eventually, sha256 } from '../support/gateway.ts';
import { folder, patchgate } from '../support/process.ts';
import { freePort, redisServer, until } from '../support/redis.ts';
import { call, listening, TLS } from '../support/secured.ts';
import { wasLost } from '../support/unsent.ts';
import { caller, isGone, ROOMY_TENANTS, type Team, team } from '../support/workers.ts';

const WHOAMI = '/_gateway/whoami';
const NEW_KEY = 'pgk_billing_fake-new-key';
const withKey = (key: string) => ({
  tenants: { ...ROOMY_TENANTS, billing: { ...ROOMY_TENANTS.billing, keys: [{ id: 'now', sha256: sha256(key) }] } },
});

const callersOf = (running: Team, count: number, key = BILLING_KEY) =>
  Array.from({ length: count }, () => caller(running.url, key));
/** Callers of all workers: connections are dealt out in turn. */
const oneOfEach = (running: Team, key = BILLING_KEY) => callersOf(running, 2, key);
const statusOf = async (running: Team) => (await (await fetch(`${running.adminUrl}/status`)).json()) as StatusDocument;
const post = (running: Team, path: string, body?: object) =>
  fetch(`${running.adminUrl}${path}`, {
    method: 'POST',
    ...(body && { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }),
  });
const ends = async (running: Team, code = 0) => expect(await running.process.exited).toEqual({ code, signal: null });

describe('workers', () => {
  test('share the port evenly, and each line of the log is whole and says whose it is', async () => {
    await using running = await team();
    for (const each of callersOf(running, 8)) {
      for (let i = 0; i < 50; i++) expect((await each.ask(WHOAMI)).status).toBe(200);
      each.close();
    }
    running.process.child.kill('SIGINT');
    await ends(running);
    const lines = running.process.stdout().trimEnd().split('\n');
    const parsed = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    const access = parsed.filter(({ msg, path }) => msg === 'request' && path === WHOAMI);
    expect([1, 2].map((worker) => access.filter((line) => line['worker'] === worker).length)).toEqual([200, 200]);
    expect(parsed.find(({ msg }) => msg === 'listening')).toMatchObject({ workers: 2 });
    expect(running.process.stderr()).toBe('');
  });

  test('are metrics of one process: what each counted is added up, what Redis tells all of them is not', async () => {
    await using running = await team();
    for (const each of oneOfEach(running)) {
      for (let i = 0; i < 3; i++) await each.ask('/api/v1/flow-runs');
      each.close();
    }
    const { slots } = await eventuallySettled(running);
    const { sum, families } = await scrape(running.adminUrl);
    const sent = running.simulator.stats().arrived;
    expect(sum('patchgate_upstream_requests_total')).toBe(sent);
    expect(slots).toBe(sent);
    expect(sum('patchgate_quota_ceiling')).toBe(900_000);
    expect(sum('patchgate_quota_replicas')).toBe(2);
    expect(sum('patchgate_workers')).toBe(2);
    expect(sum('patchgate_config_info')).toBe(1);
    expect(sum('patchgate_config_reloads_total', { outcome: 'ok' })).toBe(1);
    expect(families.get('patchgate_http_request_duration_seconds')).toBe('histogram');
    expect(sum('patchgate_http_request_duration_seconds_count')).toBe(sum('patchgate_http_requests_total'));
  });

  test('are one on /status and on the page, each told once', async () => {
    await using running = await team();
    running.simulator.switches.answerLatency = { kind: 'fixed', ms: 2_000 };
    const asked = oneOfEach(running).map((each) => each.ask('/api/v1/flow-runs'));
    await eventually(async () => (await statusOf(running)).inFlight === 2, 'both are in flight');
    const listening = await listenTo(running.adminUrl);
    const frame = await listening.next();
    expect(frame.status).toMatchObject({ inFlight: 2, workers: { configured: 2, serving: 2, restarts: 0 } });
    expect(frame.tenants.busiest.map(({ id }) => id)).toEqual(['billing', 'reader']);
    await Promise.all(asked);
    const status = await statusOf(running);
    expect(status.accounts['main']).toMatchObject({ ceiling: 900_000, replicas: 2 });
    expect(status.tenants['billing']!.recent.requests).toBe(await running.metric('http_requests_total'));
    expect(status.cache.maxBytes).toBe(128 * 2 ** 20);
    expect(await (await fetch(`${running.adminUrl}/config`)).json()).toMatchObject({ workers: 2 });
    running.process.child.kill('SIGINT');
    let last = await listening.next();
    while (!last.status.draining) last = await listening.next();
    listening.stop();
    await ends(running);
  });

  test('forget together what is purged', async () => {
    await using running = await team({ cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '1h' }] } });
    const callers = oneOfEach(running);
    const all = async () => {
      for (const each of callers) await each.ask('/api/v1/flows/1');
      return running.simulator.stats().arrived;
    };
    const first = await all();
    expect(await all()).toBe(first);
    expect((await post(running, '/cache/purge', { account: 'nobody' })).status).toBe(400);
    expect(await (await post(running, '/cache/purge', { path: '/api/v1/flows/**' })).json()).toEqual({
      accounts: ['main'],
    });
    expect(await all()).toBe(first + 1);
    expect(await all()).toBe(first + 1);
  });

  test('have the memory of one process: each its part', async () => {
    await using running = await team({
      cache: { memory: '1MiB', maxEntry: '200KiB', shared: false, rules: [{ match: 'GET /api/v1/**', ttl: '1h' }] },
    });
    for (const each of oneOfEach(running)) {
      for (let i = 0; i < 20; i++) await each.ask(`/api/v1/payload-metadata/${i}/download?bytes=100000`);
    }
    const bytes = await running.metric('cache_bytes');
    expect(bytes).toBeGreaterThan(500_000);
    expect(bytes).toBeLessThanOrEqual(2 ** 20);
  });
});

/** Slots in use, when Redis has told all of the last request. */
async function eventuallySettled(running: Team): Promise<{ slots: number }> {
  let slots = 0;
  await until('workers have heard of each other', async () => {
    const { accounts } = await statusOf(running);
    slots = accounts['main']!.slotsInUse;
    return accounts['main']!.replicas === 2 && slots === running.simulator.stats().arrived;
  });
  return { slots };
}

describe('a reload', () => {
  test('is in force on all workers when POST /reload is answered, and counted once', async () => {
    await using running = await team();
    const callers = callersOf(running, 4);
    for (let i = 0; i < 5; i++) {
      const [key, old] = i % 2 === 0 ? [NEW_KEY, BILLING_KEY] : [BILLING_KEY, NEW_KEY];
      await running.change(withKey(key));
      const answer = (await (await post(running, '/reload')).json()) as { revision: string };
      for (const each of [...callersOf(running, 2, key), ...callersOf(running, 2, old)]) {
        callers.push(each);
      }
      const fresh = await Promise.all(
        [...oneOfEach(running, key), ...oneOfEach(running, old)].map(async (each) => {
          const { status } = await each.ask(WHOAMI);
          each.close();
          return status;
        }),
      );
      expect(fresh).toEqual([200, 200, 401, 401]);
      expect((await statusOf(running)).revision).toBe(answer.revision);
    }
    expect(await running.reloads()).toEqual({ ok: 6, refused: 0 });
    for (const each of callers) each.close();
    running.process.child.kill('SIGINT');
    await ends(running);
    expect(running.lines().filter(({ msg }) => msg === 'configuration reloaded')).toHaveLength(5);
  });

  test('that is bad is refused once, with its problems, and the old one stays on all', async () => {
    await using running = await team();
    await running.write('acounts: {}');
    const refused = await post(running, '/reload');
    expect([refused.status, JSON.stringify(await refused.json())]).toEqual([422, expect.stringContaining('acounts')]);
    expect(await running.reloads()).toEqual({ ok: 1, refused: 1 });
    expect(await running.metric('config_last_reload_successful')).toBe(0);
    for (const each of oneOfEach(running)) expect((await each.ask(WHOAMI)).status).toBe(200);
    await running.change({ workers: 3 });
    expect(await (await post(running, '/reload')).json()).toMatchObject({ needsRestart: ['workers'] });
    expect(running.pids()).toHaveLength(2);
  });

  test('is what a worker begins with that is started after it', async () => {
    await using running = await team();
    await running.change(withKey(NEW_KEY));
    expect((await post(running, '/reload')).status).toBe(200);
    await replaceOne(running);
    for (const each of callersOf(running, 4, NEW_KEY)) expect((await each.ask(WHOAMI)).status).toBe(200);
    expect(await running.metric('config_info')).toBe(1);
  });
});

/** kill -9 of a worker; resolves when another is in its place. */
async function replaceOne(running: Team, pid = running.pids()[0]!): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await until('another worker serves in its place', async () => {
    return !running.pids().includes(pid) && (await running.metric('workers')) === 2;
  });
}

describe('a worker that is killed', () => {
  test('loses its own requests alone, and is replaced; no counter goes back', async () => {
    await using running = await team();
    const [victim = 0] = running.pids();
    const outcomes: ('answered' | 'lost')[][] = [];
    let going = true;
    const named = Array.from({ length: 8 }, (_, i) => caller(running.url, BILLING_KEY, `caller-${i}`));
    const callers = named.map(async (each) => {
      const mine: ('answered' | 'lost')[] = [];
      outcomes.push(mine);
      while (going) {
        mine.push(
          await each.ask(WHOAMI).then(
            ({ status }) => (status === 200 ? 'answered' : 'lost'),
            () => 'lost',
          ),
        );
      }
      each.close();
    });
    await eventually(() => outcomes.every((each) => each.length > 20), 'load');
    const counts: number[] = [];
    const count = async () => counts.push(await running.metric('http_requests_total'));
    await count();
    process.kill(victim, 'SIGKILL');
    while (running.pids().includes(victim) || (await running.metric('workers')) < 2) await count();
    await count();
    const before = outcomes.map((each) => each.length);
    await eventually(() => outcomes.every((each, i) => each.length > before[i]! + 20), 'load goes on');
    going = false;
    await Promise.all(callers);
    await count();
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    expect(await running.metric('worker_restarts_total')).toBe(1);
    expect((await statusOf(running)).workers).toEqual({ configured: 2, serving: 2, restarts: 1 });
    running.process.child.kill('SIGINT');
    await ends(running);
    const lines = running.lines();
    const { worker: ended } = lines.find(({ msg, pid }) => msg === 'worker has ended' && pid === victim)!;
    const lost = outcomes.map((each) => each.filter((outcome) => outcome === 'lost').length);
    const first = outcomes.map((_, i) => lines.find(({ requestId }) => requestId === `caller-${i}`)?.['worker']);
    expect(lost).toEqual(first.map((worker) => (worker === ended ? 1 : 0)));
    expect(new Set(first).size).toBe(2);
  });

  test('leaves its slots held, and its place to the one that comes for it', async () => {
    const at = (port: number) => ({ host: '127.0.0.1', port });
    await using running = await team({ listen: { traffic: at(await freePort()), admin: at(0) } });
    const all = async () => {
      for (const each of oneOfEach(running)) {
        for (let i = 0; i < 5; i++) expect((await each.ask('/api/v1/flow-runs')).status).toBe(200);
        each.close();
      }
    };
    await all();
    await eventuallySettled(running);
    await replaceOne(running);
    await all();
    // Those of the dead one too; and it is no third replica, whose share would be kept for it.
    await eventuallySettled(running);
  });

  test('again and again ends the whole, with a line that says so and a code that is not 0', async () => {
    await using running = await team();
    const killing = setInterval(() => {
      for (const pid of pidsOr(running)) process.kill(pid, 'SIGKILL');
    }, 50);
    try {
      await ends(running, 1);
    } finally {
      clearInterval(killing);
    }
    expect(running.process.stderr()).toMatch(/workers have ended 10 times within 60 s: giving up/);
  });
});

const pidsOr = (running: Team): number[] => {
  try {
    return running.pids();
  } catch {
    return [];
  }
};

describe('a drain', () => {
  test('under load of kept and of new connections loses no request, on any worker', async () => {
    await using running = await team({ drain: { delay: '3s', timeout: '10s' } });
    const lost: string[] = [];
    let answered = 0;
    const callers = callersOf(running, 16).map(async (each) => {
      for (;;) {
        const outcome = await each.ask(WHOAMI).catch((error: NodeJS.ErrnoException) => error);
        if (outcome instanceof Error) {
          if (await wasLost(outcome, () => each.ask(WHOAMI))) lost.push(outcome.code ?? outcome.message);
          break;
        }
        answered += 1;
      }
      each.close();
    });
    await eventually(() => answered > 200, 'load');
    running.process.child.kill('SIGTERM');
    await running.process.waitFor(/"msg":"draining"/);
    const ready = await fetch(`${running.adminUrl}/readyz`);
    expect([ready.status, await ready.json()]).toEqual([503, { ready: false, reasons: ['draining'] }]);
    await Promise.all(callers);
    expect(lost).toEqual([]);
    await ends(running);
    expect(running.lines().filter(({ msg }) => msg === 'drained')).toHaveLength(3);
    expect(running.process.stderr()).toBe('');
  });

  test('finishes what is in flight on each worker, and a request whose first half has arrived', async () => {
    await using running = await team({ drain: { delay: '0ms', timeout: '1h' } });
    running.simulator.switches.answerLatency = { kind: 'fixed', ms: 1_500 };
    const arrived = running.simulator.stats().arrived;
    const asked = oneOfEach(running).map((each) => each.ask('/api/v1/flow-runs'));
    const half = connect(running.port, '127.0.0.1');
    let text = '';
    half.setEncoding('latin1').on('data', (chunk: string) => {
      text += chunk;
    });
    const closed = new Promise((resolve) => half.on('close', resolve));
    const request = `GET ${WHOAMI} HTTP/1.1\r\nHost: x\r\nX-API-Key: ${BILLING_KEY}\r\n\r\n`;
    half.write(request.slice(0, 30));
    await eventually(() => running.simulator.stats().arrived === arrived + 2, 'both are upstream');
    running.process.child.kill('SIGTERM');
    await running.process.waitFor(/"msg":"draining"/);
    half.write(request.slice(30));
    expect((await Promise.all(asked)).map(({ status }) => status)).toEqual([200, 200]);
    await closed;
    expect(text).toMatch(/^HTTP\/1\.1 200/);
    await ends(running);
  });

  test('kills a worker that hangs when the time is over; a second signal ends at once', async () => {
    await using running = await team({ drain: { delay: '0ms', timeout: '200ms' } });
    const [hanging = 0] = running.pids();
    process.kill(hanging, 'SIGSTOP');
    running.process.child.kill('SIGTERM');
    await ends(running);
    expect(isGone(hanging)).toBe(true);
    expect(running.process.stdout()).toContain('worker does not end: it is killed');
    await using stuck = await team({ drain: { delay: '1h', timeout: '1h' } });
    const pids = stuck.pids();
    stuck.process.child.kill('SIGTERM');
    await stuck.process.waitFor(/"msg":"draining"/);
    stuck.process.child.kill('SIGTERM');
    await ends(stuck, 130);
    await eventually(() => pids.every(isGone), 'the workers are gone');
  });
});

test('a primary that is killed takes its workers with it: nothing serves without it, and the port is free', async () => {
  await using running = await team();
  const pids = running.pids();
  const [each] = oneOfEach(running);
  expect((await each!.ask(WHOAMI)).status).toBe(200);
  running.process.child.kill('SIGKILL');
  await running.process.exited;
  await eventually(() => pids.every(isGone), 'the workers are gone');
  await expect(each!.ask(WHOAMI)).rejects.toThrow();
  await expect(caller(running.url).ask(WHOAMI)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
});

test('without Redis each worker has a share of the ceiling, as a replica has; they are ready all the same', async () => {
  const accounts = {
    main: {
      quota: { limit: 100, ceiling: 40, burst: 40 },
      credentials: [{ id: 'primary', apiKey: 'fake-patchworks-key-primary' }],
    },
  };
  const billing = { ...ROOMY_TENANTS.billing, quota: { rate: 40, burst: 40, maxWait: '0s' } };
  await using running = await team({ accounts, tenants: { ...ROOMY_TENANTS, billing } });
  await until('they know of each other', async () => (await statusOf(running)).accounts['main']!.replicas === 2);
  await until('each has a share', async () => {
    const members = await running.redis.client().hget('patchgate:{main}:window', 'M');
    const shares = Object.values(JSON.parse(members ?? '{}') as Record<string, { a: number }>);
    return shares.length === 2 && shares.every(({ a }) => a > 0);
  });
  const before = running.simulator.stats().arrived;
  await running.redis.kill();
  const callers = callersOf(running, 4);
  await until('all work alone', async () => {
    for (const each of callers) await each.ask('/api/v1/flow-runs');
    return (await statusOf(running)).state.fallback;
  });
  expect(await running.metric('state_fallback')).toBe(1);
  expect((await fetch(`${running.adminUrl}/readyz`)).status).toBe(200);
  for (let i = 0; i < 20; i++) for (const each of callers) await each.ask('/api/v1/flow-runs');
  const sent = running.simulator.stats().arrived;
  expect(sent).toBeGreaterThan(before);
  expect(sent).toBeLessThanOrEqual(40);
});

test('speak TLS as one process does; a new certificate is shown by all of them, and a drain ends their connections', async () => {
  const [ca, simulator, redis] = await Promise.all([authority(), createSimulator(), redisServer()]);
  const [old, next] = [await ca.issue('gate'), await ca.issue('gate')];
  await using home = await folder({ 'tls.crt': old.cert, 'tls.key': old.key });
  const config = configuration(simulator.url, {
    ...listening(TLS, TLS),
    ...{ workers: 2, redis: { url: redis.url }, reload: { watch: false }, drain: { delay: '0ms', timeout: '1h' } },
  });
  await writeFile(join(home.path, 'gateway.yaml'), JSON.stringify(config));
  await using gateway = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: home.path });
  const [, line = ''] = await gateway.waitFor(/(\{.*"msg":"listening"\})/);
  const { traffic, admin } = JSON.parse(line) as Record<'traffic' | 'admin', { port: number }>;
  const shown = async () => {
    const answers = await Promise.all([1, 2, 3, 4].map(() => call(traffic.port, WHOAMI, { ca: ca.cert })));
    return new Set([...answers, await call(admin.port, '/livez', { ca: ca.cert })].map((each) => each.fingerprint));
  };
  const before = await shown();
  expect(before.size).toBe(1);
  await writeFile(join(home.path, 'tls.crt'), next.cert);
  await writeFile(join(home.path, 'tls.key'), next.key);
  gateway.child.kill('SIGHUP');
  await gateway.waitFor(/"msg":"configuration reloaded"/);
  const after = await shown();
  expect([after.size, [...after].some((each) => before.has(each))]).toEqual([1, false]);
  const idle = connectTls({ port: traffic.port, host: '127.0.0.1', ca: ca.cert, servername: 'gate' });
  idle.on('error', () => {});
  const shaking = connect(traffic.port, '127.0.0.1');
  gateway.child.kill('SIGTERM');
  expect(await gateway.exited).toEqual({ code: 0, signal: null });
  idle.destroy();
  shaking.destroy();
  await Promise.all([simulator.close(), redis[Symbol.asyncDispose]()]);
});

test('a caller that sends half of its headers and no more is cut off by a worker too', async () => {
  await using running = await team({ limits: { headersTimeout: '300ms' } });
  const slow = connect(running.port, '127.0.0.1');
  slow.write('GET / HTTP/1.1\r\nHost:');
  slow.resume();
  await new Promise((resolve) => slow.on('close', resolve));
});

describe('what can not be served is said, with exit code 1', () => {
  test('workers without Redis: the load refuses them, and says what to do', async () => {
    const text = JSON.stringify(configuration('http://127.0.0.1:1', { workers: 'auto' }));
    await using files = await folder({ 'gateway.yaml': text });
    await using process = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
    expect((await process.exited).code).toBe(1);
    expect(process.stderr()).toMatch(/gateway\.yaml:1: workers: needs redis: .*Set redis, or leave workers at 1/);
  });

  test('a port that is taken', async () => {
    await using running = await team();
    const listen = { traffic: { host: '127.0.0.1', port: running.port }, admin: { host: '127.0.0.1', port: 0 } };
    const redis = { url: running.redis.url };
    await using files = await folder({
      'gateway.yaml': JSON.stringify(configuration('http://127.0.0.1:1', { workers: 2, redis, listen })),
    });
    await using second = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
    expect(await second.exited).toEqual({ code: 1, signal: null });
    expect(second.stderr()).toMatch(/the traffic port .* is taken by another process/);
  });
});
