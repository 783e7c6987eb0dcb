import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createMemoryCache } from '../adapters/memory/cache.ts';
import { type Answer, answer, emptyNotes, headerOf, type Outcome, type Received, refuse } from '../exchange.ts';
import type { Meter } from '../observe.ts';
import { parsePattern, splitPath } from '../routing/pattern.ts';
import { cacheAnswers } from './cache.ts';
import { createDrops } from './drops.ts';
import type { Cacheable } from './options.ts';
import type { CacheRule } from './policy.ts';

const meter = new Proxy({}, { get: () => () => {} }) as Meter;
const rule = (text: string, ttlMs: number | false): CacheRule => {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  return ttlMs === false ? { match: parsed.pattern, store: false } : { match: parsed.pattern, store: true, ttlMs };
};

interface Asked {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Received['headers'];
  readonly account?: string;
}

/** The stage over an upstream whose answers a test writes. */
function caching(
  upstream: () => Outcome | Promise<Outcome>,
  rules: CacheRule[] = [rule('GET /**', 30_000)],
  maxEntryBytes = 1000,
) {
  const clock = new ManualClock();
  const store = createMemoryCache({ maxBytes: 1_000_000, clock, meter });
  let fetched = 0;
  const handler = cacheAnswers<Cacheable>({ store, drops: createDrops(), rules, maxEntryBytes, clock, meter })(() => {
    fetched++;
    return upstream();
  });
  const askNow = ({ method = 'GET', path = '/a', headers = {}, account = 'main' }: Asked = {}) => {
    const exchange = {
      method,
      path,
      headers,
      query: '',
      segments: splitPath(path),
      body: null,
      notes: emptyNotes(),
      route: { upstream: { id: 'core', account } },
    } as unknown as Cacheable;
    return handler(exchange);
  };
  const ask = async (asked?: Asked) => (await askNow(asked)) as Answer;
  const status = async (asked?: Asked) => headerOf((await ask(asked)).headers ?? [], 'cache-status');
  return { clock, store, ask, askNow, status, fetched: () => fetched };
}

const ok =
  (headers: string[] = [], body = 'body', status = 200) =>
  () =>
    answer(status, headers, Buffer.from(body));
const HIT = /^patchgate; hit; ttl=\d+$/;

describe('with a rule', () => {
  test('the ttl of the rule counts, whatever upstream says', async () => {
    const cache = caching(ok(['Cache-Control', 'no-cache, private']));
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
    cache.clock.advance(29_999);
    expect(await cache.status()).toBe('patchgate; hit; ttl=1');
    cache.clock.advance(1);
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
  });

  test('a stepped wall clock neither ends nor lengthens it', async () => {
    const cache = caching(ok());
    await cache.ask();
    cache.clock.stepWall(-3_600_000);
    cache.clock.advance(29_000);
    expect(await cache.status()).toMatch(HIT);
    cache.clock.advance(1_001);
    expect(await cache.status()).not.toMatch(HIT);
  });

  test.each([301, 404, 500, 206, 201])('an answer %i is not stored', async (code) => {
    const cache = caching(ok([], 'x', code));
    expect([await cache.status(), await cache.status()]).toEqual(['patchgate; fwd=miss', 'patchgate; fwd=miss']);
  });

  test("accounts never see each other's answers", async () => {
    const cache = caching(ok());
    await cache.ask({ account: 'main' });
    expect(await cache.status({ account: 'other' })).toBe('patchgate; fwd=miss; stored');
  });

  test('HEAD is answered from what GET has stored, without the body', async () => {
    const cache = caching(ok());
    await cache.ask();
    const head = await cache.ask({ method: 'HEAD' });
    expect([headerOf(head.headers, 'cache-status'), head.body]).toEqual([expect.stringMatching(HIT), null]);
  });

  test('the answer to a HEAD is never given to a GET', async () => {
    const cache = caching(() => answer(200, ['Content-Length', '0'], null));
    expect(await cache.status({ method: 'HEAD' })).toBe('patchgate; fwd=miss');
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
  });

  test('a kept body holds its own bytes, not the pool it came in', async () => {
    const cache = caching(() => answer(200, [], Buffer.alloc(64 * 1024).subarray(0, 4)));
    await cache.ask();
    expect(((await cache.ask()).body as Buffer).buffer.byteLength).toBe(4);
  });

  test('what belongs to one exchange is not stored', async () => {
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
    const cache = caching(ok([...own, 'X-Kept', 'yes']));
    await cache.ask();
    const { headers } = await cache.ask();
    expect(headers.filter((_, index) => index % 2 === 0)).toEqual(['X-Kept', 'Age', 'Cache-Status']);
  });

  test('answers that vary are kept apart, and Vary: * is not kept', async () => {
    const cache = caching(ok(['Vary', 'Accept-Language']));
    for (const language of ['de', 'en'])
      expect(await cache.status({ headers: { 'accept-language': language } })).toBe('patchgate; fwd=miss; stored');
    for (const language of ['de', 'en'])
      expect(await cache.status({ headers: { 'accept-language': language } })).toMatch(HIT);
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
    const star = caching(ok(['Vary', 'Accept, *']));
    expect([await star.status(), await star.status()]).toEqual(['patchgate; fwd=miss', 'patchgate; fwd=miss']);
  });

  test('store: false is never stored, also before a rule that would', async () => {
    const cache = caching(ok(), [rule('GET /a', false), rule('GET /**', 1000)]);
    expect([await cache.status(), await cache.status()]).toEqual(['patchgate; fwd=bypass', 'patchgate; fwd=bypass']);
    expect(await cache.status({ path: '/b' })).toBe('patchgate; fwd=miss; stored');
  });

  test('parts are neither asked of the cache nor stored', async () => {
    const cache = caching(ok());
    await cache.ask();
    expect(await cache.status({ headers: { range: 'bytes=0-1' } })).toBe('patchgate; fwd=bypass');
  });

  test('refusals pass and are not stored', async () => {
    const cache = caching(() => refuse('account_quota'));
    expect([await cache.ask(), await cache.ask()]).toMatchObject([{ kind: 'refusal' }, { kind: 'refusal' }]);
    expect(cache.fetched()).toBe(2);
  });
});

describe('an answer from cache', () => {
  test('has headers of its own: what is added to one is in no other', async () => {
    const cache = caching(ok(['X-Kept', 'yes']));
    await cache.ask();
    (await cache.ask()).headers.push('RateLimit', 'of one tenant');
    expect(headerOf((await cache.ask()).headers, 'ratelimit')).toBeUndefined();
  });

  test('says how old it is, counted from when upstream made it', async () => {
    const cache = caching(ok(['Age', '7']));
    await cache.ask();
    cache.clock.advance(2_999);
    expect(headerOf((await cache.ask()).headers, 'age')).toBe('9');
  });

  test('with nothing in it stays without body and length', async () => {
    const cache = caching(() => answer(204, ['Cache-Control', 'public, max-age=60'], null), []);
    await cache.ask();
    expect(await cache.ask()).toMatchObject({ status: 204, body: null });
  });

  test('is given synchronously: nothing waits on the way of a hit', async () => {
    const cache = caching(ok());
    await cache.ask();
    expect(cache.askNow()).toMatchObject({ kind: 'answer' });
  });
});

describe('without a rule, as RFC 9111 has it for a shared cache', () => {
  test.each<[string[], boolean]>([
    [['Cache-Control', 'public, max-age=60'], true],
    [['Cache-Control', 's-maxage=60'], true],
    // Every request carries the account's credential: without a word that allows it, nothing is shared (section 3.5).
    [['Cache-Control', 'max-age=60'], false],
    [['Cache-Control', 'no-cache, private'], false],
    [['Cache-Control', 'public, max-age=60, no-store'], false],
    [['Cache-Control', 'public, max-age=60', 'Cache-Control', 'private'], false],
    [['Cache-Control', 'public, max-age=nonsense'], false],
    [['Cache-Control', 'public, max-age=60', 'Age', '60'], false],
    [[], false],
  ])('%j: stored %s', async (headers, stored) => {
    const cache = caching(ok(headers), []);
    await cache.ask();
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
    const cache = caching(ok());
    await cache.ask();
    cache.clock.advance(10_000);
    expect(await cache.status({ headers: headers as unknown as Record<string, string> })).toBe(expected);
  });

  test('with max-age=0 for a new one, also in the moment it was stored', async () => {
    const cache = caching(ok());
    await cache.ask();
    expect(await cache.status({ headers: { 'cache-control': 'max-age=0' } })).toBe('patchgate; fwd=request; stored');
  });

  test('for nothing but what is there: 504 if it is not', async () => {
    const cache = caching(ok());
    expect(await cache.ask({ headers: { 'cache-control': 'only-if-cached' } })).toMatchObject({
      code: 'only_if_cached',
    });
    expect(cache.fetched()).toBe(0);
  });
});

describe('a body that streams', () => {
  const streaming =
    (chunks: string[], fails = false, headers: string[] = []) =>
    () =>
      answer(
        200,
        headers,
        Readable.from(
          (async function* body() {
            for (const chunk of chunks) yield Buffer.from(chunk);
            if (fails) throw new Error('broken off');
          })(),
        ),
      );
  const read = async (reply: Answer) => {
    const chunks: Buffer[] = [];
    for await (const chunk of reply.body as Readable) chunks.push(chunk);
    return Buffer.concat(chunks).toString();
  };

  test('is stored once it is whole', async () => {
    const cache = caching(streaming(['one ', 'two']));
    expect(await read(await cache.ask())).toBe('one two');
    expect(String((await cache.ask()).body)).toBe('one two');
  });

  test('is not stored if it breaks off, grows too large, or is not read to its end', async () => {
    const broken = caching(streaming(['one'], true));
    await expect(read(await broken.ask())).rejects.toThrow('broken off');
    const large = caching(streaming(['x'.repeat(600), 'x'.repeat(600)]));
    expect((await read(await large.ask())).length).toBe(1200);
    const left = caching(streaming(['one', 'two', 'three']));
    ((await left.ask()).body as Readable).destroy();
    const short = caching(streaming(['one'], false, ['Content-Length', '4']));
    await read(await short.ask());
    for (const cache of [broken, large, left, short]) {
      await cache.ask();
      expect(cache.fetched()).toBe(2);
    }
  });
});

test('a body that took longer than its answer is fresh is not stored', async () => {
  const body = new Readable({ read() {} });
  const cache = caching(() => answer(200, [], body));
  const reply = await cache.ask();
  cache.clock.advance(30_000);
  body.push('late');
  body.push(null);
  await (reply.body as Readable).toArray();
  expect(cache.store.size()).toEqual({ entries: 0, bytes: 0 });
});

test('a body that streams is said to be stored only where its size is known to fit', async () => {
  const body = () => Readable.from([Buffer.from('1234')]);
  const declared = (bytes: string) => caching(() => answer(200, ['Content-Length', bytes], body())).status();
  expect(await declared('4')).toBe('patchgate; fwd=miss; stored');
  expect(await declared('1001')).toBe('patchgate; fwd=miss');
  expect(await caching(() => answer(200, [], body())).status()).toBe('patchgate; fwd=miss');
});

describe('a write', () => {
  test.each<[string, string, string, boolean]>([
    ['POST', '/api/v1/flows', '/api/v1/flows', true],
    ['PATCH', '/api/v1/flows/1', '/api/v1/flows', true],
    ['PATCH', '/api/v1/flows/1', '/api/v1/flows/2', true],
    ['DELETE', '/api/v1/flows/1', '/api/v1/flows/1/runs', true],
    ['POST', '/api/v1/flows', '/api/v1/scripts', false],
    ['OPTIONS', '/api/v1/flows', '/api/v1/flows', false],
  ])('%s %s drops what is kept of %s: %s', async (method, written, path, dropped) => {
    const cache = caching(ok());
    await cache.ask({ path });
    await cache.ask({ method, path: written });
    expect(HIT.test((await cache.status({ path })) ?? '')).toBe(!dropped);
  });

  test('that may have been carried out drops, and one that upstream refused does not', async () => {
    let outcome: Outcome = ok()();
    const cache = caching(() => outcome);
    for (const [result, dropped] of [
      [refuse('upstream_timeout'), true],
      [answer(500, [], null), true],
      [answer(422, [], null), false],
      [refuse('account_quota'), false],
    ] as [Outcome, boolean][]) {
      outcome = ok()();
      await cache.ask();
      outcome = result;
      await cache.ask({ method: 'POST' });
      outcome = ok()();
      expect(HIT.test((await cache.status()) ?? '')).toBe(!dropped);
    }
  });

  test('keeps a GET that was under way from being stored', async () => {
    let release: (outcome: Outcome) => void = () => {};
    const answers: (Outcome | Promise<Outcome>)[] = [
      new Promise<Outcome>((resolve) => {
        release = resolve;
      }),
      ok()(),
      ok()(),
    ];
    const cache = caching(() => answers.shift() as Outcome | Promise<Outcome>);
    const reading = cache.status();
    await cache.ask({ method: 'POST' });
    release(ok()());
    expect(await reading).toBe('patchgate; fwd=miss');
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
  });
});
