import { type IncomingMessage, request } from 'node:http';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import {
  BILLING_KEY,
  configuration,
  eventually,
  PRIMARY,
  READER_KEY,
  run,
  sha256,
  TENANTS,
} from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';

describe('a repeated GET', () => {
  test('is served from cache, for every tenant of the account, and uses no quota', async () => {
    await using gateway = await run();
    const first = await gateway.fetch('/api/v1/flows?filter%5Bid%5D=1%2C2');
    const second = await gateway.fetch('/api/v1/flows/?filter[id]=1,2', { headers: { Authorization: READER_KEY } });
    expect(first.headers.get('cache-status')).toBe('patchgate; fwd=miss; stored');
    expect(second.headers.get('cache-status')).toMatch(/^patchgate; hit; ttl=(29|30)$/);
    expect(second.headers.get('age')).toMatch(/^[01]$/);
    expect(await second.text()).toBe(await first.text());
    expect(second.headers.get('x-request-id')).not.toBe(first.headers.get('x-request-id'));
    expect(gateway.simulator.arrivals()).toHaveLength(1);
    expect(await gateway.metric('patchgate_upstream_requests_avoided_total', { tenant: 'reader', by: 'hit' })).toBe(1);
    expect(await gateway.metric('patchgate_cache_entries')).toBe(1);
  });

  test('is fetched again when its ttl is over', async () => {
    const clock = new ManualClock(Date.now());
    await using gateway = await run({
      clock: { ...systemClock, now: () => clock.now(), monotonic: () => clock.monotonic() },
    });
    await gateway.fetch('/api/v1/flows');
    clock.advance(29_000);
    expect((await gateway.fetch('/api/v1/flows')).headers.get('age')).toBe('29');
    clock.advance(1_001);
    expect((await gateway.fetch('/api/v1/flows')).headers.get('cache-status')).toBe('patchgate; fwd=stale; stored');
    expect(gateway.simulator.arrivals()).toHaveLength(2);
  });

  test('of live state is never served from cache', async () => {
    await using gateway = await run();
    for (let i = 0; i < 3; i++) {
      expect((await gateway.fetch('/api/v1/flow-runs')).headers.get('cache-status')).toBe('patchgate; fwd=bypass');
    }
    expect(gateway.simulator.arrivals()).toHaveLength(3);
  });

  test('has links to the host that each caller used, cached or not', async () => {
    await using gateway = await run();
    const viaName = `http://localhost:${gateway.port}`;
    const links = async (base: string) => {
      const response = await fetch(`${base}/api/v1/flows`, { headers: { Authorization: READER_KEY } });
      return ((await response.json()) as { links: { first: string } }).links.first;
    };
    expect(await links(gateway.url)).toContain(gateway.url);
    expect(await links(viaName)).toContain(viaName);
    expect(await links(gateway.url)).toContain(gateway.url);
    expect(gateway.simulator.arrivals()).toHaveLength(1);
  });

  test('by a tenant without permission is rejected though the response is cached', async () => {
    await using gateway = await run({
      config: (upstream) => configuration(upstream, { cache: { rules: [{ match: 'GET /api/**', ttl: '1m' }] } }),
    });
    await gateway.fetch('/api/v2/my/user');
    expect((await gateway.fetch('/api/v1/flows')).status).toBe(200);
    expect((await gateway.fetch('/api/v2/x', { headers: { Authorization: READER_KEY } })).status).toBe(403);
  });
});

describe('a write', () => {
  test('is seen by the next read', async () => {
    await using gateway = await run();
    const names = async () =>
      (await (await gateway.fetch('/api/v1/scripts?per_page=100')).json()) as { data: { name: string }[] };
    expect((await names()).data.map((each) => each.name)).not.toContain('made just now');
    await gateway.fetch('/api/v1/scripts', { method: 'POST', body: '{"name":"made just now"}' });
    expect((await names()).data.map((each) => each.name)).toContain('made just now');
    await gateway.fetch('/api/v1/scripts/1', { method: 'PATCH', body: '{"name":"renamed"}' });
    expect((await names()).data.map((each) => each.name)).toContain('renamed');
  });

  test('that the upstream refused does not invalidate', async () => {
    await using gateway = await run();
    await gateway.fetch('/api/v1/scripts');
    await gateway.fetch('/api/v1/scripts', { method: 'POST', body: '{}' });
    expect((await gateway.fetch('/api/v1/scripts')).headers.get('cache-status')).toMatch(/hit/);
  });

  test('prevents a GET that was under way from being stored', async () => {
    await using gateway = await run({ simulator: { switches: { responseLatency: { kind: 'fixed', ms: 100 } } } });
    const reading = gateway.fetch('/api/v1/scripts');
    await eventually(() => gateway.simulator.arrivals().length === 1, 'the GET upstream');
    gateway.simulator.switches.responseLatency = { kind: 'fixed', ms: 0 };
    await gateway.fetch('/api/v1/scripts', { method: 'POST', body: '{"name":"x"}' });
    await (await reading).text();
    expect((await gateway.fetch('/api/v1/scripts')).headers.get('cache-status')).toBe('patchgate; fwd=miss; stored');
  });
});

describe('a response', () => {
  test('above maxEntry is passed on and not stored', async () => {
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          cache: { maxEntry: '64KiB', rules: [{ match: 'GET /api/v1/payload-metadata/**', ttl: '1m' }] },
        }),
    });
    const sizes: number[] = [];
    for (const bytes of [200_000, 200_000, 50_000, 50_000]) {
      const response = await gateway.fetch(`/api/v1/payload-metadata/1/download?bytes=${bytes}`);
      sizes.push((await response.arrayBuffer()).byteLength);
    }
    expect(sizes).toEqual([200_000, 200_000, 50_000, 50_000]);
    expect(gateway.simulator.arrivals()).toHaveLength(3);
  });

  test('whose body breaks off is not stored', async () => {
    await using gateway = await run();
    gateway.simulator.fault({
      match: 'GET /api/v1/scripts',
      times: 1,
      fault: { kind: 'truncate', framing: 'chunked' },
    });
    await expect(gateway.fetch('/api/v1/scripts').then((each) => each.text())).rejects.toThrow();
    expect((await gateway.fetch('/api/v1/scripts')).headers.get('cache-status')).toBe('patchgate; fwd=miss; stored');
  });

  test('with a cookie is stored without it', async () => {
    await using gateway = await run();
    const fault = {
      kind: 'status',
      status: 200,
      body: '{"data":[]}',
      headers: { 'Set-Cookie': 'session=canary' },
    } as const;
    gateway.simulator.fault({ match: 'GET /api/v1/scripts', times: 1, fault });
    await gateway.fetch('/api/v1/scripts');
    const hit = await gateway.fetch('/api/v1/scripts');
    expect(hit.headers.get('cache-status')).toMatch(/hit/);
    expect(JSON.stringify([...hit.headers])).not.toContain('canary');
  });

  test('with malformed freshness fields is passed on, not stored without a rule, and counted', async () => {
    await using gateway = await run({ config: (upstream) => configuration(upstream, { cache: { rules: [] } }) });
    const headers = { 'Cache-Control': 'public, max-age=soon', Age: 'old', Expires: 'never' };
    gateway.simulator.fault({
      match: 'GET /api/v1/scripts',
      fault: { kind: 'status', status: 200, body: '{"data":[]}', headers },
    });
    for (const time of ['first', 'second']) {
      const response = await gateway.fetch('/api/v1/scripts');
      expect([time, response.status, response.headers.get('age'), await response.text()]).toEqual([
        time,
        200,
        'old',
        '{"data":[]}',
      ]);
    }
    expect(gateway.simulator.arrivals()).toHaveLength(2);
    const counted = (field: string) => gateway.metric('patchgate_upstream_invalid_headers_total', { field });
    expect([await counted('cache-control'), await counted('age'), await counted('expires')]).toEqual([2, 2, 2]);
    expect(await counted('date')).toBe(0);
  });

  test('confirmed by a 304 has its malformed fields counted once', async () => {
    await using gateway = await run({ config: (upstream) => configuration(upstream, { cache: { rules: [] } }) });
    const headers = { 'Cache-Control': 'public, max-age=0', ETag: '"fake"', 'Last-Modified': 'yesterday' };
    const changed = { kind: 'status', status: 200, body: '{"data":[]}', headers } as const;
    gateway.simulator.fault({ match: 'GET /api/v1/scripts', times: 1, fault: changed });
    gateway.simulator.fault({ match: 'GET /api/v1/scripts', times: 1, fault: { kind: 'status', status: 304 } });
    const both = [await gateway.fetch('/api/v1/scripts'), await gateway.fetch('/api/v1/scripts')];
    expect(both.map(({ status }) => status)).toEqual([200, 200]);
    expect(gateway.simulator.arrivals().map(({ status }) => status)).toEqual([200, 304]);
    expect(await gateway.metric('patchgate_upstream_invalid_headers_total', { field: 'last-modified' })).toBe(1);
  });

  test('may be requested anew, or only from cache', async () => {
    await using gateway = await run();
    expect((await gateway.fetch('/api/v1/scripts', { headers: { 'Cache-Control': 'only-if-cached' } })).status).toBe(
      504,
    );
    await gateway.fetch('/api/v1/scripts');
    expect((await gateway.fetch('/api/v1/scripts', { headers: { 'Cache-Control': 'only-if-cached' } })).status).toBe(
      200,
    );
    expect(
      (await gateway.fetch('/api/v1/scripts', { headers: { 'Cache-Control': 'no-cache' } })).headers.get(
        'cache-status',
      ),
    ).toBe('patchgate; fwd=request; stored');
    expect(gateway.simulator.arrivals()).toHaveLength(2);
  });
});

test('cache.memory of 0B turns the cache off', async () => {
  await using gateway = await run({ config: (upstream) => configuration(upstream, { cache: { memory: '0B' } }) });
  for (let i = 0; i < 2; i++) {
    expect((await gateway.fetch('/api/v1/flows')).headers.get('cache-status')).toBe('patchgate; fwd=bypass');
  }
  expect(gateway.simulator.arrivals()).toHaveLength(2);
});

/** A gateway whose clock a test moves; sockets and other timers keep running. */
async function withManualClock(more: Record<string, unknown>, options: Partial<Parameters<typeof run>[0]> = {}) {
  const clock = new ManualClock(Date.now());
  const gateway = await run({
    clock: { ...systemClock, now: () => clock.now(), monotonic: () => clock.monotonic() },
    config: (upstream) => configuration(upstream, more),
    ...options,
  });
  return { clock, gateway };
}
const statusOf = (response: Response) => response.headers.get('cache-status') ?? '';
const STALE = {
  cache: {
    rules: [
      { match: 'GET /api/**', ttl: '30s', staleWhileRevalidate: '1m', staleIfError: '1h', staleIfThrottled: '10m' },
    ],
  },
};

describe('a stale response', () => {
  test('is served instead of a 429 when the quota is used up', async () => {
    const quota = { rate: 1, burst: 2, maxWait: '0s' };
    const { clock, gateway } = await withManualClock({
      ...STALE,
      tenants: { ...TENANTS, reader: { ...TENANTS.reader, quota } },
    });
    await using _ = gateway;
    const asReader = { headers: { Authorization: READER_KEY } };
    await gateway.fetch('/api/v1/flows', asReader);
    await gateway.fetch('/api/v1/scripts', asReader);
    expect((await gateway.fetch('/api/v1/systems', asReader)).status).toBe(429);
    clock.advance(31_000 + 60_000);
    // Uses the token that was refilled by then.
    await gateway.fetch('/api/v1/systems', asReader);
    const stale = await gateway.fetch('/api/v1/flows', asReader);
    expect([stale.status, statusOf(stale)]).toEqual([200, 'patchgate; hit; ttl=-61; detail=stale-if-throttled']);
    expect(await gateway.metric('patchgate_upstream_requests_avoided_total', { tenant: 'reader', by: 'stale' })).toBe(
      1,
    );
    expect(await gateway.metric('patchgate_http_requests_total', { tenant: 'reader', cache: 'stale' })).toBe(1);
    clock.advance(10 * 60_000 - 61_000);
    // Uses the tokens that were refilled by then.
    for (let i = 0; i < 2; i++) await gateway.fetch(`/api/v1/caches?page=${i}`, asReader);
    expect((await gateway.fetch('/api/v1/flows', asReader)).status).toBe(429);
  });

  test('is served for an hour while the upstream is down, and no longer', async () => {
    const { clock, gateway } = await withManualClock({ ...STALE, accounts: { main: { credentials: [PRIMARY] } } });
    await using _ = gateway;
    const body = await (await gateway.fetch('/api/v1/flows')).text();
    gateway.simulator.fault({ match: '* /**', fault: { kind: 'status', status: 503, body: 'down' } });
    for (let minute = 0; minute < 60; minute += 12) {
      clock.advance(12 * 60_000);
      const stale = await gateway.fetch('/api/v1/flows');
      expect([stale.status, await stale.text()]).toEqual([200, body]);
      expect(statusOf(stale)).toMatch(/^patchgate; hit; ttl=-\d+; detail=stale-/);
    }
    clock.advance(2 * 60_000);
    expect((await gateway.fetch('/api/v1/flows')).status).toBe(503);
  });

  test('is served at once and refreshed in the background, which leaves the last slots to callers', async () => {
    const { clock, gateway } = await withManualClock({
      ...STALE,
      accounts: { main: { quota: { ceiling: 20, burst: 20 }, credentials: [PRIMARY] } },
    });
    await using _ = gateway;
    await gateway.fetch('/api/v1/flows');
    clock.advance(31_000);
    expect(statusOf(await gateway.fetch('/api/v1/flows'))).toMatch(/stale-while-revalidate/);
    await eventually(async () => /hit; ttl=(29|30)$/.test(statusOf(await gateway.fetch('/api/v1/flows'))), 'refreshed');
    const arrived = gateway.simulator.arrivals().length;
    clock.advance(31_000);
    // All slots but one are in use: the last one is not for a refresh without a caller.
    while ((await gateway.fetch('/api/v1/flow-runs', { headers: { 'Cache-Control': 'no-cache' } })).status === 200);
    const sent = gateway.simulator.arrivals().length;
    expect(sent).toBeGreaterThan(arrived);
    for (let i = 0; i < 5; i++)
      expect(statusOf(await gateway.fetch('/api/v1/flows'))).toMatch(/stale-while-revalidate/);
    expect(gateway.simulator.arrivals()).toHaveLength(sent);
  });
});

describe('many callers of one response', () => {
  test('are one request, and get the response though the first disconnects', async () => {
    await using gateway = await run({ simulator: { switches: { responseLatency: { kind: 'fixed', ms: 900 } } } });
    const abort = new AbortController();
    const first = gateway.fetch('/api/v1/flows', { signal: abort.signal }).catch(() => null);
    await eventually(() => gateway.simulator.arrivals().length === 1, 'the GET upstream');
    const others = Array.from({ length: 10 }, () => gateway.fetch('/api/v1/flows'));
    await eventually(
      async () => (await gateway.metric('patchgate_http_requests_in_flight')) === 11,
      'all requests have arrived',
    );
    abort.abort();
    expect(await first).toBeNull();
    const responses = await Promise.all(others);
    expect(responses.map((each) => [each.status, /collapsed/.test(statusOf(each))])).toEqual(
      Array(10).fill([200, true]),
    );
    expect(gateway.simulator.arrivals()).toHaveLength(1);
    expect(await gateway.metric('patchgate_upstream_requests_avoided_total', { by: 'collapsed' })).toBe(10);
  });

  test('get the complete body though the first reads slowly', async () => {
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          cache: { rules: [{ match: 'GET /api/v1/payload-metadata/**', ttl: '1m' }] },
        }),
    });
    const path = '/api/v1/payload-metadata/1/download?bytes=1500000';
    // A caller that does not read its response.
    const headers = { Authorization: BILLING_KEY, Accept: '*/*' };
    const slow = request({ host: '127.0.0.1', port: gateway.port, path, headers });
    const begun = new Promise<IncomingMessage>((resolve) => slow.once('response', resolve));
    slow.end();
    const incoming = await begun;
    incoming.pause();
    const other = await gateway.fetch(path);
    expect((await other.arrayBuffer()).byteLength).toBe(1_500_000);
    expect(gateway.simulator.arrivals()).toHaveLength(1);
    incoming.destroy();
  });
});

describe('a query value that the rule excludes', () => {
  test('is fetched by each request, also while another is under way, and never stored', async () => {
    await using gateway = await run({ simulator: { switches: { responseLatency: { kind: 'fixed', ms: 200 } } } });
    const ask = (tenant: string, path = '/api/v1/flows?include=labels%2Cvariables', init: RequestInit = {}) =>
      gateway.fetch(path, { ...init, headers: { Authorization: tenant, ...(init.headers as object) } });
    const together = await Promise.all([BILLING_KEY, BILLING_KEY, READER_KEY].map((tenant) => ask(tenant)));
    const later = await ask(READER_KEY);
    expect([...together, later].map(statusOf)).toEqual(Array(4).fill('patchgate; fwd=bypass; detail=unless'));
    expect(gateway.simulator.arrivals()).toHaveLength(4);
    expect(await gateway.metric('patchgate_cache_entries')).toBe(0);
    expect((await ask(BILLING_KEY, undefined, { headers: { 'Cache-Control': 'only-if-cached' } })).status).toBe(504);
    expect(statusOf(await ask(BILLING_KEY, undefined, { method: 'HEAD' }))).toMatch(/unless/);
    // The same without it is stored.
    await ask(BILLING_KEY, '/api/v1/flows?include=labels');
    expect(statusOf(await ask(READER_KEY, '/api/v1/flows?include=labels'))).toMatch(/hit/);
  });
});

describe('accounts', () => {
  test('never share a response, though path and host are the same', async () => {
    const accounts = { one: { apiKeys: { k: 'fake-key-of-one' } }, two: { apiKeys: { k: 'fake-key-of-two' } } };
    await using gateway = await run({
      simulator: { accounts },
      cold: true,
      config: (upstream) => ({
        listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
        accounts: {
          one: { credentials: [{ id: 'k', apiKey: 'fake-key-of-one' }] },
          two: { credentials: [{ id: 'k', apiKey: 'fake-key-of-two' }] },
        },
        upstreams: { first: { account: 'one', origin: upstream }, second: { account: 'two', origin: upstream } },
        routes: [
          { match: '* /api/v1/**', upstream: 'first' },
          { match: '* /api/v1/**', upstream: 'second' },
        ],
        tenants: {
          billing: { account: 'one', keys: [{ id: 'k', sha256: sha256(BILLING_KEY) }] },
          reader: { account: 'two', keys: [{ id: 'k', sha256: sha256(READER_KEY) }] },
        },
      }),
    });
    const list = '/api/v1/scripts?per_page=100&sort=-id';
    const asBilling = () => gateway.fetch(list);
    const asReader = () => gateway.fetch(list, { headers: { Authorization: READER_KEY } });
    const created = await gateway.fetch('/api/v1/scripts', {
      method: 'POST',
      body: '{"name":"of one alone"}',
      headers: { Prefer: 'wait=9' },
    });
    expect(created.status).toBe(201);
    for (let i = 0; i < 3; i++) {
      const [ones, twos] = await Promise.all([asBilling(), asReader()]);
      expect([await ones.text(), await twos.text()].map((text) => text.includes('of one alone'))).toEqual([
        true,
        false,
      ]);
    }
    expect(gateway.simulator.arrivals().filter(({ method }) => method === 'GET')).toHaveLength(2);
  });
});

describe('a response that the caller has already', () => {
  test('is a 304, with the headers of the tenant', async () => {
    await using gateway = await run();
    const first = await gateway.fetch('/api/v1/flows');
    const tag = first.headers.get('etag') ?? '';
    expect(tag).toMatch(/^"pg-/);
    // Not by fetch, which adds no-cache to a request with a condition.
    const ask = (condition: string) =>
      sendRaw(
        gateway.port,
        rawRequest('GET /api/v1/flows', [`X-API-Key: ${BILLING_KEY}`, 'Accept: */*', `If-None-Match: ${condition}`]),
      );
    const again = await ask(`"other", ${tag}`);
    expect([again.status, again.body, again.headers['etag']]).toEqual([304, '', tag]);
    expect(again.headers['ratelimit']).toMatch(/^"tenant"/);
    expect(again.headers['cache-status']).toMatch(/hit/);
    expect((await ask('"pg-other"')).status).toBe(200);
  });

  test('a HEAD has the length of the GET, and needs no second request', async () => {
    await using gateway = await run();
    const head = await gateway.fetch('/api/v1/flows', { method: 'HEAD' });
    const get = await gateway.fetch('/api/v1/flows');
    const hit = await gateway.fetch('/api/v1/flows', { method: 'HEAD' });
    const length = String((await get.arrayBuffer()).byteLength);
    expect([head.headers.get('content-length'), hit.headers.get('content-length')]).toEqual([length, length]);
    expect(await hit.text()).toBe('');
    expect(gateway.simulator.arrivals()).toHaveLength(1);
  });

  test('a range request is served in full from cache, and passed on without a stored response', async () => {
    await using gateway = await run();
    const headers = { Range: 'bytes=0-3' };
    expect(statusOf(await gateway.fetch('/api/v1/flows', { headers }))).toBe('patchgate; fwd=bypass');
    await gateway.fetch('/api/v1/flows');
    const full = await gateway.fetch('/api/v1/flows', { headers });
    expect([full.status, /hit/.test(statusOf(full))]).toEqual([200, true]);
  });
});

describe('a purge', () => {
  const purge = (gateway: { adminUrl: string }, body: object) =>
    fetch(`${gateway.adminUrl}/cache/purge`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
  const TAGGED = {
    cache: {
      rules: [
        { match: 'GET /api/v1/flows/**', ttl: '1m', tags: ['definitions'] },
        { match: 'GET /api/v1/systems/**', ttl: '1m', tags: ['definitions', 'people'] },
        { match: 'GET /api/v1/scripts/**', ttl: '1m', vary: ['X-Shape'] },
      ],
    },
  };

  test('invalidates by path, by tag and by account, and nothing else', async () => {
    await using gateway = await run({ config: (upstream) => configuration(upstream, TAGGED) });
    const paths = ['/api/v1/flows', '/api/v1/systems', '/api/v1/scripts'];
    const cached = async () => {
      const responses = await Promise.all(paths.map((path) => gateway.fetch(path)));
      return responses.map((each) => /hit/.test(statusOf(each)));
    };
    await cached();
    expect(await cached()).toEqual([true, true, true]);
    for (const [body, after, entries] of [
      [{ path: '/api/v1/scripts/**' }, [true, true, false], 1],
      [{ tag: 'people' }, [true, false, true], 1],
      [{ tag: 'definitions', account: 'main' }, [false, false, true], 2],
      [{ account: 'main' }, [false, false, false], 3],
    ] as const) {
      expect(await (await purge(gateway, body)).json()).toEqual({ accounts: ['main'], entries });
      expect(await cached()).toEqual(after);
    }
    const wrong = await purge(gateway, { account: 'mian' });
    expect([wrong.status, ((await wrong.json()) as { detail: string }).detail]).toEqual([
      400,
      'There is no account "mian"; known are main.',
    ]);
  });

  test('a field that a rule names under vary selects the response', async () => {
    await using gateway = await run({ config: (upstream) => configuration(upstream, TAGGED) });
    const shaped = (shape: string) => gateway.fetch('/api/v1/scripts', { headers: { 'X-Shape': shape } });
    expect(statusOf(await shaped('a'))).toMatch(/miss/);
    expect(statusOf(await shaped('b'))).toMatch(/miss/);
    expect(statusOf(await shaped('a'))).toMatch(/hit/);
  });
});
