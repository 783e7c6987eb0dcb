import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { cacheHarness, caller, HIT, ok, rule, tick } from '../../test/support/cache-harness.ts';
import { headerOf, type ProxyResponse, type Result, reject, respond } from '../context.ts';

describe('with a rule', () => {
  test('the ttl of the rule counts, whatever the upstream sends', async () => {
    const cache = cacheHarness(ok(['Cache-Control', 'no-cache, private']));
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
    cache.clock.advance(29_999);
    expect(await cache.status()).toBe('patchgate; hit; ttl=1');
    cache.clock.advance(1);
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
  });

  test('a stepped wall clock neither ends nor lengthens it', async () => {
    const cache = cacheHarness(ok());
    await cache.request();
    cache.clock.stepWall(-3_600_000);
    cache.clock.advance(29_000);
    expect(await cache.status()).toMatch(HIT);
    cache.clock.advance(1_001);
    expect(await cache.status()).not.toMatch(HIT);
  });

  test.each(['POST', 'DELETE', 'OPTIONS'])('%s is passed on, and its response says why', async (method) => {
    const cache = cacheHarness(ok());
    expect(await cache.status({ method })).toBe('patchgate; fwd=method');
    expect(cache.fetches).toHaveLength(1);
  });

  test.each([301, 404, 500, 206, 201])('a response %i is not stored', async (code) => {
    const cache = cacheHarness(ok([], 'x', code));
    expect([await cache.status(), await cache.status()]).toEqual(['patchgate; fwd=miss', 'patchgate; fwd=miss']);
  });

  test("accounts never see each other's responses", async () => {
    const cache = cacheHarness(ok());
    await cache.request({ account: 'main' });
    expect(await cache.status({ account: 'other' })).toBe('patchgate; fwd=miss; stored');
  });

  test('HEAD is served from the stored response to a GET', async () => {
    const cache = cacheHarness(ok());
    await cache.request();
    // The server sends no body to a HEAD, but needs it for the length.
    const head = await cache.request({ method: 'HEAD' });
    expect([headerOf(head.headers, 'cache-status'), String(head.body)]).toEqual([expect.stringMatching(HIT), 'body']);
  });

  test('a HEAD fetches a response that a GET can be served from', async () => {
    const cache = cacheHarness(ok());
    expect(await cache.status({ method: 'HEAD' })).toBe('patchgate; fwd=miss; stored');
    expect(await cache.status()).toMatch(HIT);
    expect(cache.fetches.map(({ method }) => method)).toEqual(['GET']);
  });

  test('without a rule the response to a HEAD is never served to a GET', async () => {
    const cache = cacheHarness(() => respond(200, ['Cache-Control', 'public, max-age=9'], null), { rules: [] });
    expect(await cache.status({ method: 'HEAD' })).toBe('patchgate; fwd=miss');
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
  });

  test('a stored body has its own memory, not the pool it came in', async () => {
    const cache = cacheHarness(() => respond(200, [], Buffer.alloc(64 * 1024).subarray(0, 4)));
    await cache.request();
    expect(((await cache.request()).body as Buffer).buffer.byteLength).toBe(4);
  });

  test('fields that belong to one request are not stored', async () => {
    const own = [
      'Set-Cookie',
      'a=b',
      'X-RateLimit-Remaining',
      '3',
      'RateLimit',
      'x',
      'X-Request-Id',
      'r',
      'Connection',
      'X-Hop',
      'X-Hop',
      'h',
      'WWW-Authenticate',
      'w',
    ];
    const cache = cacheHarness(ok([...own, 'X-Kept', 'yes']));
    await cache.request();
    const { headers } = await cache.request();
    expect(headers.filter((_, index) => index % 2 === 0)).toEqual(['X-Kept', 'ETag', 'Age', 'Cache-Status']);
  });

  test('variants are stored apart, and a response with Vary: * is not stored', async () => {
    const cache = cacheHarness(ok(['Vary', 'Accept-Language']));
    for (const language of ['de', 'en'])
      expect(await cache.status({ headers: { 'accept-language': language } })).toBe('patchgate; fwd=miss; stored');
    for (const language of ['de', 'en'])
      expect(await cache.status({ headers: { 'accept-language': language } })).toMatch(HIT);
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
    const star = cacheHarness(ok(['Vary', 'Accept, *']));
    expect([await star.status(), await star.status()]).toEqual(['patchgate; fwd=miss', 'patchgate; fwd=miss']);
  });

  test('store: false goes before a later rule that would store', async () => {
    const cache = cacheHarness(ok(), { rules: [rule('GET /a', false), rule('GET /**', 1000)] });
    expect([await cache.status(), await cache.status()]).toEqual(['patchgate; fwd=bypass', 'patchgate; fwd=bypass']);
    expect(await cache.status({ path: '/b' })).toBe('patchgate; fwd=miss; stored');
  });

  test('the first rule that matches counts, and one for another method never does', async () => {
    const cache = cacheHarness(ok(), {
      rules: [rule('POST /a', 1_000), rule('GET /a/**', 2_000), rule('* /**', 3_000)],
    });
    for (const [path, ttl] of [
      ['/a', 2],
      ['/b', 3],
    ] as const) {
      await cache.request({ path });
      expect(await cache.status({ path })).toBe(`patchgate; hit; ttl=${ttl}`);
    }
  });

  test('a range request is served in full from a stored response, or passed on and not stored', async () => {
    const cache = cacheHarness(ok());
    const headers = { range: 'bytes=0-1' };
    expect(await cache.status({ headers })).toBe('patchgate; fwd=bypass');
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
    const full = await cache.request({ headers });
    expect([full.status, String(full.body), headerOf(full.headers, 'cache-status')]).toEqual([
      200,
      'body',
      expect.stringMatching(HIT),
    ]);
  });

  test('rejections pass and are not stored', async () => {
    const cache = cacheHarness(() => reject('account_quota'));
    expect([await cache.request(), await cache.request()]).toMatchObject([
      { kind: 'rejection' },
      { kind: 'rejection' },
    ]);
    expect(cache.fetches).toHaveLength(2);
  });
});

describe('a stored response', () => {
  test('is served with its own header list: a field added to one response is in no other', async () => {
    const cache = cacheHarness(ok(['X-Kept', 'yes']));
    await cache.request();
    (await cache.request()).headers.push('RateLimit', 'of one tenant');
    expect(headerOf((await cache.request()).headers, 'ratelimit')).toBeUndefined();
  });

  test('has its age since the upstream made it', async () => {
    const cache = cacheHarness(ok(['Age', '7']));
    await cache.request();
    cache.clock.advance(2_999);
    expect(headerOf((await cache.request()).headers, 'age')).toBe('9');
  });

  test('without content is served without body and length', async () => {
    const cache = cacheHarness(() => respond(204, ['Cache-Control', 'public, max-age=60'], null), { rules: [] });
    await cache.request();
    expect(await cache.request()).toMatchObject({ status: 204, body: null });
  });
});

describe('without a rule, as RFC 9111 has it for a shared cache', () => {
  test.each<[string[], boolean]>([
    [['Cache-Control', 'public, max-age=60'], true],
    [['Cache-Control', 's-maxage=60'], true],
    [['Cache-Control', 'max-age=60'], true],
    [['Cache-Control', 'no-cache, private'], false],
    [['Cache-Control', 'public, max-age=60, no-store'], false],
    [['Cache-Control', 'public, max-age=60', 'Cache-Control', 'private'], false],
    [['Cache-Control', 'public, max-age=nonsense'], false],
    [['Cache-Control', 'public, max-age=60', 'Age', '60'], false],
    [[], false],
  ])('%j: stored %s', async (headers, stored) => {
    const cache = cacheHarness(ok(headers), { rules: [] });
    await cache.request();
    expect(HIT.test((await cache.status()) ?? '')).toBe(stored);
  });
});

describe('a request may ask', () => {
  test.each([
    [{ 'cache-control': 'no-cache' }, 'patchgate; fwd=request; stored'],
    [{ 'cache-control': 'no-store' }, 'patchgate; fwd=request'],
    [{ 'cache-control': 'max-age=0' }, 'patchgate; fwd=request; stored'],
    [{ pragma: 'no-cache' }, 'patchgate; fwd=request; stored'],
    [{ 'cache-control': 'max-age=100' }, 'patchgate; hit; ttl=20'],
    [{ 'cache-control': 'max-age=5' }, 'patchgate; fwd=request; stored'],
    [{ 'cache-control': 'min-fresh=60' }, 'patchgate; fwd=request; stored'],
    [{ 'cache-control': 'only-if-cached' }, 'patchgate; hit; ttl=20'],
  ])('%j', async (headers, expected) => {
    const cache = cacheHarness(ok());
    await cache.request();
    cache.clock.advance(10_000);
    expect(await cache.status({ headers: headers as unknown as Record<string, string> })).toBe(expected);
  });

  test('with max-age=0 for a new response, also in the moment it was stored', async () => {
    const cache = cacheHarness(ok());
    await cache.request();
    expect(await cache.status({ headers: { 'cache-control': 'max-age=0' } })).toBe('patchgate; fwd=request; stored');
  });

  test('for a stored response only: 504 if there is none', async () => {
    const cache = cacheHarness(ok());
    expect(await cache.request({ headers: { 'cache-control': 'only-if-cached' } })).toMatchObject({
      code: 'only_if_cached',
    });
    expect(cache.fetches).toHaveLength(0);
  });
});

describe('a streamed body', () => {
  const streaming =
    (chunks: string[], fails = false, headers: string[] = []) =>
    () =>
      respond(
        200,
        headers,
        Readable.from(
          (async function* body() {
            for (const chunk of chunks) yield Buffer.from(chunk);
            if (fails) throw new Error('broken off');
          })(),
        ),
      );
  const read = async (response: ProxyResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of response.body as Readable) chunks.push(chunk);
    return Buffer.concat(chunks).toString();
  };

  test('is stored when it is complete', async () => {
    const cache = cacheHarness(streaming(['one ', 'two']));
    expect(await read(await cache.request())).toBe('one two');
    expect(String((await cache.request()).body)).toBe('one two');
  });

  test('is not stored if it breaks off, grows too large, or is not read to its end', async () => {
    const broken = cacheHarness(streaming(['one'], true));
    await expect(read(await broken.request())).rejects.toThrow('broken off');
    const large = cacheHarness(streaming(['x'.repeat(600), 'x'.repeat(600)]));
    expect((await read(await large.request())).length).toBe(1200);
    const aborted = cacheHarness(streaming(['one', 'two', 'three']));
    const disconnect = caller();
    ((await aborted.request({ disconnect })).body as Readable).destroy();
    disconnect.leave();
    const short = cacheHarness(streaming(['one'], false, ['Content-Length', '4']));
    await read(await short.request());
    for (const cache of [broken, large, aborted, short]) {
      await cache.request();
      expect(cache.fetches).toHaveLength(2);
    }
  });
});

test('a body that takes longer than its response is fresh is not stored', async () => {
  const body = new Readable({ read() {} });
  const cache = cacheHarness(() => respond(200, [], body));
  const response = await cache.request();
  cache.clock.advance(30_000);
  body.push('late');
  body.push(null);
  await (response.body as Readable).toArray();
  expect(cache.memory.size()).toEqual({ entries: 0, bytes: 0 });
});

test('a streamed body is reported as stored only if its declared size fits', async () => {
  const body = () => Readable.from([Buffer.from('1234')]);
  const declared = (bytes: string) => cacheHarness(() => respond(200, ['Content-Length', bytes], body())).status();
  expect(await declared('4')).toBe('patchgate; fwd=miss; stored');
  expect(await declared('1001')).toBe('patchgate; fwd=miss');
  expect(await cacheHarness(() => respond(200, [], body())).status()).toBe('patchgate; fwd=miss');
});

describe('a write', () => {
  test.each<[string, string, string, boolean]>([
    ['POST', '/api/v1/flows', '/api/v1/flows', true],
    ['PATCH', '/api/v1/flows/1', '/api/v1/flows', true],
    ['PATCH', '/api/v1/flows/1', '/api/v1/flows/2', true],
    ['DELETE', '/api/v1/flows/1', '/api/v1/flows/1/runs', true],
    ['POST', '/api/v1/flows', '/api/v1/scripts', false],
    ['OPTIONS', '/api/v1/flows', '/api/v1/flows', false],
  ])('%s %s invalidates stored responses of %s: %s', async (method, written, path, invalidated) => {
    const cache = cacheHarness(ok());
    await cache.request({ path });
    await cache.request({ method, path: written });
    expect(HIT.test((await cache.status({ path })) ?? '')).toBe(!invalidated);
  });

  test('that may have been carried out invalidates, and one that the upstream refused does not', async () => {
    let next: Result = ok()();
    const cache = cacheHarness(() => next);
    for (const [result, invalidated] of [
      [reject('upstream_timeout'), true],
      [respond(500, [], null), true],
      [respond(422, [], null), false],
      [reject('account_quota'), false],
    ] as [Result, boolean][]) {
      next = ok()();
      await cache.request();
      next = result;
      await cache.request({ method: 'POST' });
      next = ok()();
      expect(HIT.test((await cache.status()) ?? '')).toBe(!invalidated);
    }
  });

  test('prevents a GET that was under way from being stored', async () => {
    let release: (result: Result) => void = () => {};
    const responses: (Result | Promise<Result>)[] = [
      new Promise<Result>((resolve) => {
        release = resolve;
      }),
      ok()(),
      ok()(),
    ];
    const cache = cacheHarness(() => responses.shift() as Result | Promise<Result>);
    const reading = cache.status();
    await tick();
    await cache.request({ method: 'POST' });
    release(ok()());
    expect(await reading).toBe('patchgate; fwd=miss');
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
  });
});
