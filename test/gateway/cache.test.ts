import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { configuration, eventually, READER_KEY, run } from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';

describe('a repeated GET', () => {
  test('is answered from cache, for every tenant of the account, and costs nothing', async () => {
    await using gateway = await run();
    const first = await gateway.fetch('/api/v1/flows?filter%5Bid%5D=1%2C2');
    const second = await gateway.fetch('/api/v1/flows/?filter[id]=1,2', { headers: { Authorization: READER_KEY } });
    expect(first.headers.get('cache-status')).toBe('patchgate; fwd=miss; stored');
    expect(second.headers.get('cache-status')).toMatch(/^patchgate; hit; ttl=(29|30)$/);
    expect(second.headers.get('age')).toMatch(/^[01]$/);
    expect(await second.text()).toBe(await first.text());
    expect(second.headers.get('x-request-id')).not.toBe(first.headers.get('x-request-id'));
    expect(gateway.simulator.arrivals()).toHaveLength(1);
    expect(await gateway.metric('patchgate_upstream_calls_saved_total', { tenant: 'reader', by: 'hit' })).toBe(1);
    expect(await gateway.metric('patchgate_cache_entries')).toBe(1);
  });

  test('is fetched anew when its time is over', async () => {
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

  test('of live state is never answered from cache', async () => {
    await using gateway = await run();
    for (let i = 0; i < 3; i++) {
      expect((await gateway.fetch('/api/v1/flow-runs')).headers.get('cache-status')).toBe('patchgate; fwd=bypass');
    }
    expect(gateway.simulator.arrivals()).toHaveLength(3);
  });

  test('leads back to the host each caller used, cached or not', async () => {
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

  test('by a tenant that may not is refused though it is in the cache', async () => {
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

  test('that upstream refused leaves the cache alone', async () => {
    await using gateway = await run();
    await gateway.fetch('/api/v1/scripts');
    await gateway.fetch('/api/v1/scripts', { method: 'POST', body: '{}' });
    expect((await gateway.fetch('/api/v1/scripts')).headers.get('cache-status')).toMatch(/hit/);
  });

  test('keeps a GET that was under way meanwhile from being stored', async () => {
    await using gateway = await run({ simulator: { switches: { answerLatency: { kind: 'fixed', ms: 100 } } } });
    const reading = gateway.fetch('/api/v1/scripts');
    await eventually(() => gateway.simulator.arrivals().length === 1, 'the GET upstream');
    gateway.simulator.switches.answerLatency = { kind: 'fixed', ms: 0 };
    await gateway.fetch('/api/v1/scripts', { method: 'POST', body: '{"name":"x"}' });
    await (await reading).text();
    expect((await gateway.fetch('/api/v1/scripts')).headers.get('cache-status')).toBe('patchgate; fwd=miss; stored');
  });
});

describe('an answer', () => {
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

  test('that breaks off is not stored', async () => {
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

  test('may be asked for anew, or only from cache', async () => {
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
