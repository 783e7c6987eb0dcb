import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import {
  cacheHarness,
  caller,
  type Gate,
  ok,
  pendingUpstream,
  rule,
  statusOf,
  tick,
  type Upstream,
} from '../../test/support/cache-harness.ts';
import {
  headerOf,
  type ProxyResponse,
  type Rejection,
  type Result,
  reject,
  respond,
  type WaitTerms,
} from '../context.ts';
import type { FetchResultKind } from './coalescing.ts';
import { EVERYTHING } from './invalidation.ts';
import type { ReplicaCoalescing } from './options.ts';

describe('concurrent requests for the same key', () => {
  test('are one request to the upstream, for callers of all tenants, and each gets its own response', async () => {
    const { upstream, pending } = pendingUpstream();
    const cache = cacheHarness(upstream);
    const requests = Array.from({ length: 20 }, (_, i) => cache.request({ tenant: `t${i % 4}` }));
    await tick();
    expect(pending).toHaveLength(1);
    pending[0]?.respond(ok()());
    const responses = await Promise.all(requests);
    expect(responses.map((each) => String(each.body))).toEqual(Array(20).fill('body'));
    expect(responses.filter((each) => statusOf(each) === 'patchgate; fwd=miss; collapsed; ttl=30')).toHaveLength(19);
    expect(new Set(responses.map(({ headers }) => headers)).size).toBe(20);
    expect(cache.avoided.filter((each) => each.endsWith('collapsed'))).toHaveLength(19);
  });

  test('get their response though the first caller disconnects, also in the middle of the body', async () => {
    const { upstream, pending } = pendingUpstream();
    const cache = cacheHarness(upstream);
    const [early, late] = [caller(), caller()];
    const requests = [early, late, caller()].map((disconnect) => cache.request({ disconnect }));
    await tick();
    early.leave();
    await tick();
    const body = new Readable({ read() {} });
    pending[0]?.respond(respond(200, [], body));
    const first = (await requests[0]) as ProxyResponse;
    body.push('bo');
    (first.body as Readable).destroy();
    late.leave();
    await tick();
    body.push('dy');
    body.push(null);
    expect(String((await requests[2])?.body)).toBe('body');
    expect(pending).toHaveLength(1);
  });

  test('destroy a body that arrives when the last caller has just disconnected', async () => {
    const disconnect = caller();
    const body = new Readable({ read() {} });
    const cache = cacheHarness(async () => {
      disconnect.leave();
      return respond(200, [], body);
    });
    await cache.request({ disconnect });
    expect(body.destroyed).toBe(true);
  });

  test('are cancelled at the upstream when the last caller has disconnected', async () => {
    const { upstream, pending } = pendingUpstream();
    const cache = cacheHarness(upstream);
    const callers = [caller(), caller()];
    const requests = callers.map((disconnect) => cache.request({ disconnect }));
    await tick();
    for (const each of callers) each.leave();
    await Promise.all(requests);
    expect(pending[0]?.context.disconnect.happened).toBe(true);
    void cache.request();
    await tick();
    expect(pending).toHaveLength(2);
  });

  test('are sent alone, all at once, when the response cannot be shared; later ones do not wait at all', async () => {
    const { upstream, pending } = pendingUpstream();
    const cache = cacheHarness(upstream);
    const requests = Array.from({ length: 5 }, () => cache.request());
    await tick();
    pending[0]?.respond(ok(['Vary', '*'])());
    await tick();
    expect(pending).toHaveLength(5);
    for (const each of pending) each.respond(ok(['Vary', '*'])());
    expect((await Promise.all(requests)).map(({ status }) => status)).toEqual(Array(5).fill(200));
    void cache.request();
    void cache.request();
    await tick();
    expect(pending).toHaveLength(7);
  });

  test.each([404, 302, 500])(
    'wait for the next one when the first brings a %i, which may be its own',
    async (status) => {
      const { upstream, pending } = pendingUpstream();
      const cache = cacheHarness(upstream);
      const requests = Array.from({ length: 5 }, () => cache.request());
      await tick();
      pending[0]?.respond(ok([], 'none', status)());
      await tick();
      expect(pending).toHaveLength(2);
      pending[1]?.respond(ok()());
      expect((await Promise.all(requests)).map((each) => each.status)).toEqual([status, ...Array(4).fill(200)]);
    },
  );

  test('are sent alone, all at once, when the first one used up the time of the upstream', async () => {
    const { upstream, pending } = pendingUpstream();
    const cache = cacheHarness(upstream);
    const requests = Array.from({ length: 3 }, () => cache.request());
    await tick();
    cache.clock.advance(30_000);
    pending[0]?.respond(reject('upstream_timeout'));
    await tick();
    expect(pending).toHaveLength(3);
    for (const each of pending.slice(1)) each.respond(ok()());
    expect(await Promise.all(requests)).toMatchObject([{ code: 'upstream_timeout' }, { status: 200 }, { status: 200 }]);
  });

  test('of a tenant without quota neither fail nor delay those of another tenant', async () => {
    let rejectFirst: (rejection: Rejection) => void = () => {};
    const pendingSlot = new Promise<Rejection>((resolve) => {
      rejectFirst = resolve;
    });
    const { upstream, pending } = pendingUpstream();
    const cache = cacheHarness(upstream, { gate: ({ record }) => (record.tenant === 'limited' ? pendingSlot : null) });
    const requests = [
      cache.request({ tenant: 'limited' }),
      cache.request({ tenant: 'limited' }),
      cache.request({ tenant: 'other' }),
    ];
    await tick();
    // The second tenant has a slot: it fetches, and the others wait for its fetch.
    expect(pending).toHaveLength(1);
    pending[0]?.respond(ok()());
    await tick();
    rejectFirst(reject('queue_timeout'));
    expect((await Promise.all(requests)).map(({ status }) => status)).toEqual([200, 200, 200]);
  });

  test('wait for a slot behind one of the same tenant, and the time counts towards their own wait', async () => {
    const waits: WaitTerms[] = [];
    const slots: ((rejection: Rejection) => void)[] = [];
    const cache = cacheHarness(ok(), {
      gate: (_, terms) => {
        waits.push(terms);
        return new Promise((resolve) => slots.push(resolve));
      },
    });
    const requests = [cache.request(), cache.request(), cache.request()];
    await tick();
    expect(waits).toHaveLength(1);
    cache.clock.advance(5_000);
    slots[0]?.(reject('queue_timeout'));
    await tick();
    expect(waits.map(({ waitedMs }) => waitedMs)).toEqual([0, 5_000]);
    slots[1]?.(reject('queue_timeout'));
    await tick();
    slots[2]?.(reject('queue_timeout'));
    expect(await Promise.all(requests)).toMatchObject(Array(3).fill({ code: 'queue_timeout' }));
  });

  test('wait no longer than the timeout of the upstream', async () => {
    const { upstream, pending } = pendingUpstream();
    const cache = cacheHarness(upstream);
    const requests = [cache.request(), cache.request()];
    await tick();
    cache.clock.advance(30_000);
    await tick();
    expect(pending).toHaveLength(2);
    pending[1]?.respond(ok()());
    expect((await requests[1])?.status).toBe(200);
    pending[0]?.respond(ok()());
    await requests[0];
  });

  test('are not joined by a request that comes after a write', async () => {
    const { upstream, pending } = pendingUpstream();
    const cache = cacheHarness(upstream);
    const before = cache.request();
    await tick();
    void cache.invalidations.invalidate('main', EVERYTHING);
    const after = cache.request();
    await tick();
    expect(pending).toHaveLength(2);
    pending[0]?.respond(ok([], 'old')());
    pending[1]?.respond(ok([], 'new')());
    expect([String((await before).body), String((await after).body)]).toEqual(['old', 'new']);
    expect(String((await cache.request()).body)).toBe('new');
  });

  test('for variants that turn out to differ never get the wrong one', async () => {
    const { upstream, pending } = pendingUpstream();
    const cache = cacheHarness(upstream);
    const inLanguage = (language: string) => cache.request({ headers: { 'accept-language': language } });
    const requests = [inLanguage('de'), inLanguage('de'), inLanguage('en')];
    await tick();
    pending[0]?.respond(ok(['Vary', 'Accept-Language'], 'deutsch')());
    await tick();
    expect(pending).toHaveLength(2);
    pending[1]?.respond(ok(['Vary', 'Accept-Language'], 'english')());
    expect((await Promise.all(requests)).map(({ body }) => String(body))).toEqual(['deutsch', 'deutsch', 'english']);
  });

  test('whose responses are known to vary are one request for each variant', async () => {
    const { upstream, pending } = pendingUpstream();
    const cache = cacheHarness(upstream, { rules: [rule('GET /**', 1_000)] });
    const inLanguage = (language: string, tenant: string) =>
      cache.request({ headers: { 'accept-language': language }, tenant });
    const first = inLanguage('de', 'one');
    await tick();
    pending[0]?.respond(ok(['Vary', 'Accept-Language'])());
    await first;
    const requests = ['fr', 'fr', 'en', 'fr', 'en'].map((language, i) => inLanguage(language, `t${i % 2}`));
    await tick();
    expect(pending).toHaveLength(3);
    for (const { context, respond: send } of pending.slice(1)) {
      send(ok(['Vary', 'Accept-Language'], String(context.headers['accept-language']))());
    }
    expect((await Promise.all(requests)).map(({ body }) => String(body))).toEqual(['fr', 'fr', 'en', 'fr', 'en']);
    expect(pending).toHaveLength(3);
  });

  test('are sent alone when the first one fails by a fault of the gateway', async () => {
    let calls = 0;
    const cache = cacheHarness(async () => {
      if (calls++ === 0) throw new Error('fault');
      return ok()();
    });
    const requests = [cache.request(), cache.request()];
    await expect(requests[0]).rejects.toThrow('fault');
    expect((await requests[1])?.status).toBe(200);
  });

  test('join the fetch of another replica, and refund their slot', async () => {
    let endTheirs: (kind: FetchResultKind) => void = () => {};
    const ended: string[] = [];
    const replicas: ReplicaCoalescing = {
      announce: async (_key, _since, ours) => {
        if (ended.length === 0) return { kind: 'theirs', result: new Promise((resolve) => (endTheirs = resolve)) };
        void ours.then((kind) => ended.push(kind));
        return { kind: 'ours', stored: false };
      },
    };
    const cache = cacheHarness(ok(), { replicas });
    const requests = [cache.request(), cache.request({ tenant: 'two' })];
    await tick();
    expect([cache.fetches.length, cache.refunded()]).toEqual([0, 1]);
    ended.push('free');
    endTheirs('cancelled');
    expect((await Promise.all(requests)).map(({ status }) => status)).toEqual([200, 200]);
    expect(cache.fetches).toHaveLength(1);
    expect(ended).toEqual(['free', 'stored']);
  });
});

describe('a stale response', () => {
  const WINDOWS = { staleWhileRevalidateMs: 60_000, staleIfErrorMs: 3_600_000, staleIfThrottledMs: 600_000 };
  const withWindows = (upstream: Upstream, windows: Partial<typeof WINDOWS>, gate?: Gate) =>
    cacheHarness(upstream, { rules: [rule('GET /**', 30_000, windows)], ...(gate && { gate }) });

  test('is served at once, and refreshed in the background, once for all callers', async () => {
    const { upstream, pending } = pendingUpstream();
    const terms: WaitTerms[] = [];
    const cache = withWindows(upstream, { staleWhileRevalidateMs: 60_000 }, (_, each) => {
      terms.push(each);
      return null;
    });
    const first = cache.request();
    await tick();
    pending[0]?.respond(ok([], 'old')());
    await first;
    cache.clock.advance(31_000);
    for (const tenant of ['one', 'two', 'one']) {
      const stale = await cache.request({ tenant });
      expect([String(stale.body), statusOf(stale), headerOf(stale.headers, 'age')]).toEqual([
        'old',
        'patchgate; hit; ttl=-1; detail=stale-while-revalidate',
        '31',
      ]);
    }
    expect(pending).toHaveLength(2);
    expect(terms[1]).toMatchObject({ maxWaitMs: 0, background: true });
    pending[1]?.respond(ok([], 'new')());
    await cache.settled();
    expect(String((await cache.request()).body)).toBe('new');
    expect(cache.avoided.filter((each) => each.endsWith('stale'))).toHaveLength(3);
  });

  test('whose refresh failed is not refreshed with every request', async () => {
    let fails = false;
    const cache = withWindows(() => (fails ? reject('account_quota') : ok()()), { staleWhileRevalidateMs: 60_000 });
    await cache.request();
    fails = true;
    cache.clock.advance(31_000);
    for (let i = 0; i < 5; i++) {
      await cache.request();
      await cache.settled();
    }
    expect(cache.fetches).toHaveLength(2);
    cache.clock.advance(10_001);
    await cache.request();
    await cache.settled();
    expect(cache.fetches).toHaveLength(3);
  });

  test.each<[string, Result]>([
    ['500', respond(500, [], Buffer.from('Server Error'))],
    ['503', respond(503, [], Buffer.from('down'))],
    ['a timeout', reject('upstream_timeout')],
    ['no connection', reject('upstream_unreachable')],
    ['an open breaker', reject('breaker_open')],
  ])('is served within its window when the upstream fails with %s, and not after it', async (_name, failure) => {
    let result: Result = ok()();
    const cache = withWindows(() => result, { staleIfErrorMs: 3_600_000 });
    await cache.request();
    result = failure;
    cache.clock.advance(40_000);
    expect(await cache.status()).toBe('patchgate; hit; ttl=-10; detail=stale-if-error');
    const tried = cache.fetches.length;
    expect(await cache.status()).toBe('patchgate; hit; ttl=-10; detail=stale-if-error');
    // No request waits for an upstream that has just failed.
    expect(cache.fetches).toHaveLength(tried);
    cache.clock.advance(3_589_000);
    expect(await cache.status()).toMatch(/stale-if-error/);
    cache.clock.advance(2_000);
    expect(await cache.request()).toMatchObject(
      failure.kind === 'response' ? { status: failure.status } : { code: failure.code },
    );
  });

  test('is served instead of a 429 after a short wait, unless a response arrives in time', async () => {
    const quota: { rejection: Rejection | null } = { rejection: null };
    const terms: WaitTerms[] = [];
    const cache = withWindows(ok(), { staleIfThrottledMs: 600_000 }, (_, each) => {
      terms.push(each);
      return quota.rejection;
    });
    await cache.request();
    cache.clock.advance(31_000);
    for (const code of ['tenant_quota', 'account_quota', 'queue_timeout', 'upstream_cooldown'] as const) {
      quota.rejection = reject(code);
      expect(await cache.status()).toBe('patchgate; hit; ttl=-1; detail=stale-if-throttled');
    }
    expect(terms.at(-1)?.maxWaitMs).toBe(1_000);
    quota.rejection = null;
    expect(await cache.status()).toBe('patchgate; fwd=stale; stored');
    cache.clock.advance(630_000);
    quota.rejection = reject('tenant_quota');
    expect(await cache.request()).toMatchObject({ code: 'tenant_quota' });
  });

  test.each(['no-cache', 'max-age=3600', 'min-fresh=1'])('is not served to a request with %s', async (field) => {
    let result: Result = ok()();
    const cache = withWindows(() => result, WINDOWS);
    await cache.request();
    result = reject('upstream_timeout');
    cache.clock.advance(31_000);
    expect(await cache.request({ headers: { 'cache-control': field } })).toMatchObject({ code: 'upstream_timeout' });
  });

  test('is served to a request with only-if-cached', async () => {
    const cache = withWindows(ok(), { staleWhileRevalidateMs: 60_000 });
    await cache.request();
    cache.clock.advance(31_000);
    expect(await cache.status({ headers: { 'cache-control': 'only-if-cached' } })).toMatch(/stale-while-revalidate/);
  });

  test('that a write has invalidated is served in no window', async () => {
    let result: Result = ok()();
    const cache = withWindows(() => result, WINDOWS);
    await cache.request();
    void cache.invalidations.invalidate('main', EVERYTHING);
    result = reject('upstream_timeout');
    cache.clock.advance(31_000);
    expect(await cache.request()).toMatchObject({ code: 'upstream_timeout' });
  });

  test('is served to all callers that waited for the failed fetch', async () => {
    const { upstream, pending } = pendingUpstream();
    const cache = withWindows(upstream, { staleIfErrorMs: 60_000 });
    const first = cache.request();
    await tick();
    pending[0]?.respond(ok()());
    await first;
    cache.clock.advance(31_000);
    const requests = [cache.request(), cache.request()];
    await tick();
    pending[1]?.respond(reject('upstream_timeout'));
    expect((await Promise.all(requests)).map(statusOf)).toEqual(Array(2).fill(expect.stringMatching(/stale-if-error/)));
    expect(pending).toHaveLength(2);
  });
});

describe('validation', () => {
  test("a caller's tag is compared with the gateway's, for hits and for misses", async () => {
    const cache = cacheHarness(ok());
    const first = await cache.request();
    const tag = headerOf(first.headers, 'etag') ?? '';
    expect(tag).toMatch(/^"pg-[\w-]{22}"$/);
    const again = await cache.request({ headers: { 'if-none-match': `"other", W/${tag}` } });
    expect([again.status, again.body, headerOf(again.headers, 'etag')]).toEqual([304, null, tag]);
    cache.clock.advance(30_000);
    const fetched = await cache.request({ headers: { 'if-none-match': tag } });
    expect([fetched.status, statusOf(fetched)]).toEqual([304, 'patchgate; fwd=miss; stored']);
    // The response is for all callers, so it was fetched without the condition of one.
    expect(cache.fetches.map(({ rawHeaders }) => rawHeaders)).toEqual([[], []]);
    expect((await cache.request({ headers: { 'if-none-match': '"other"' } })).status).toBe(200);
  });

  test('a tag of the upstream is kept and sent when the response is stale: a 304 refreshes the stored response', async () => {
    let result: Result = ok(['ETag', '"theirs"', 'X-A', 'old', 'X-B', 'kept'])();
    const cache = cacheHarness(() => result);
    await cache.request();
    cache.clock.advance(31_000);
    result = respond(304, ['ETag', '"theirs"', 'X-A', 'new', 'Content-Length', '0'], null);
    const confirmed = await cache.request();
    expect(cache.fetches[1]?.rawHeaders).toEqual(['If-None-Match', '"theirs"']);
    expect([confirmed.status, String(confirmed.body), statusOf(confirmed)]).toEqual([
      200,
      'body',
      'patchgate; fwd=stale; stored; fwd-status=304',
    ]);
    const hit = await cache.request();
    expect(statusOf(hit)).toBe('patchgate; hit; ttl=30');
    expect([headerOf(hit.headers, 'x-a'), headerOf(hit.headers, 'x-b')]).toEqual(['new', 'kept']);
  });

  test("without a rule and a stored response, the caller's condition is sent to the upstream", async () => {
    const cache = cacheHarness(() => respond(304, ['ETag', '"a"'], null), { rules: [] });
    const response = await cache.request({ headers: { 'if-none-match': '"a"' } });
    expect([response.status, statusOf(response)]).toEqual([304, 'patchgate; fwd=miss']);
    expect(cache.fetches[0]?.rawHeaders).toEqual(['if-none-match', '"a"']);
  });
});
