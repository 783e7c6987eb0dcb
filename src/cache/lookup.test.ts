import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { cacheHarness, caller, type Gate, HIT, rule, type Upstream } from '../../test/support/cache-harness.ts';
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
import type { Sendable } from './fill.ts';
import { EVERYTHING } from './invalidation-log.ts';
import type { ReplicaCoalescing } from './options.ts';

const ok =
  (headers: string[] = [], body = 'body', status = 200) =>
  () =>
    respond(status, [...headers], Buffer.from(body));

describe('with a rule', () => {
  test('the ttl of the rule counts, whatever upstream says', async () => {
    const cache = cacheHarness(ok(['Cache-Control', 'no-cache, private']));
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
    cache.clock.advance(29_999);
    expect(await cache.status()).toBe('patchgate; hit; ttl=1');
    cache.clock.advance(1);
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
  });

  test('a stepped wall clock neither ends nor lengthens it', async () => {
    const cache = cacheHarness(ok());
    await cache.ask();
    cache.clock.stepWall(-3_600_000);
    cache.clock.advance(29_000);
    expect(await cache.status()).toMatch(HIT);
    cache.clock.advance(1_001);
    expect(await cache.status()).not.toMatch(HIT);
  });

  test.each([301, 404, 500, 206, 201])('an answer %i is not stored', async (code) => {
    const cache = cacheHarness(ok([], 'x', code));
    expect([await cache.status(), await cache.status()]).toEqual(['patchgate; fwd=miss', 'patchgate; fwd=miss']);
  });

  test("accounts never see each other's answers", async () => {
    const cache = cacheHarness(ok());
    await cache.ask({ account: 'main' });
    expect(await cache.status({ account: 'other' })).toBe('patchgate; fwd=miss; stored');
  });

  test('HEAD is answered from what GET has stored, without the body', async () => {
    const cache = cacheHarness(ok());
    await cache.ask();
    // The edge sends no body to a HEAD; it needs it for the length.
    const head = await cache.ask({ method: 'HEAD' });
    expect([headerOf(head.headers, 'cache-status'), String(head.body)]).toEqual([expect.stringMatching(HIT), 'body']);
  });

  test('a HEAD fetches what a GET can be answered with', async () => {
    const cache = cacheHarness(ok());
    expect(await cache.status({ method: 'HEAD' })).toBe('patchgate; fwd=miss; stored');
    expect(await cache.status()).toMatch(HIT);
    expect(cache.requests.map(({ method }) => method)).toEqual(['GET']);
  });

  test('without a rule the answer to a HEAD is never given to a GET', async () => {
    const cache = cacheHarness(() => respond(200, ['Cache-Control', 'public, max-age=9'], null), { rules: [] });
    expect(await cache.status({ method: 'HEAD' })).toBe('patchgate; fwd=miss');
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
  });

  test('a kept body holds its own bytes, not the pool it came in', async () => {
    const cache = cacheHarness(() => respond(200, [], Buffer.alloc(64 * 1024).subarray(0, 4)));
    await cache.ask();
    expect(((await cache.ask()).body as Buffer).buffer.byteLength).toBe(4);
  });

  test('what belongs to one context is not stored', async () => {
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
    await cache.ask();
    const { headers } = await cache.ask();
    expect(headers.filter((_, index) => index % 2 === 0)).toEqual(['X-Kept', 'ETag', 'Age', 'Cache-Status']);
  });

  test('answers that vary are kept apart, and Vary: * is not kept', async () => {
    const cache = cacheHarness(ok(['Vary', 'Accept-Language']));
    for (const language of ['de', 'en'])
      expect(await cache.status({ headers: { 'accept-language': language } })).toBe('patchgate; fwd=miss; stored');
    for (const language of ['de', 'en'])
      expect(await cache.status({ headers: { 'accept-language': language } })).toMatch(HIT);
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
    const star = cacheHarness(ok(['Vary', 'Accept, *']));
    expect([await star.status(), await star.status()]).toEqual(['patchgate; fwd=miss', 'patchgate; fwd=miss']);
  });

  test('store: false is never stored, also before a rule that would', async () => {
    const cache = cacheHarness(ok(), { rules: [rule('GET /a', false), rule('GET /**', 1000)] });
    expect([await cache.status(), await cache.status()]).toEqual(['patchgate; fwd=bypass', 'patchgate; fwd=bypass']);
    expect(await cache.status({ path: '/b' })).toBe('patchgate; fwd=miss; stored');
  });

  test('a part is answered in full from what is stored, or passed on and not stored', async () => {
    const cache = cacheHarness(ok());
    const headers = { range: 'bytes=0-1' };
    expect(await cache.status({ headers })).toBe('patchgate; fwd=bypass');
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
    const full = await cache.ask({ headers });
    expect([full.status, String(full.body), headerOf(full.headers, 'cache-status')]).toEqual([
      200,
      'body',
      expect.stringMatching(HIT),
    ]);
  });

  test('refusals pass and are not stored', async () => {
    const cache = cacheHarness(() => reject('account_quota'));
    expect([await cache.ask(), await cache.ask()]).toMatchObject([{ kind: 'rejection' }, { kind: 'rejection' }]);
    expect(cache.fetched()).toBe(2);
  });
});

describe('an answer from cache', () => {
  test('has headers of its own: what is added to one is in no other', async () => {
    const cache = cacheHarness(ok(['X-Kept', 'yes']));
    await cache.ask();
    (await cache.ask()).headers.push('RateLimit', 'of one tenant');
    expect(headerOf((await cache.ask()).headers, 'ratelimit')).toBeUndefined();
  });

  test('says how old it is, counted from when upstream made it', async () => {
    const cache = cacheHarness(ok(['Age', '7']));
    await cache.ask();
    cache.clock.advance(2_999);
    expect(headerOf((await cache.ask()).headers, 'age')).toBe('9');
  });

  test('with nothing in it stays without body and length', async () => {
    const cache = cacheHarness(() => respond(204, ['Cache-Control', 'public, max-age=60'], null), { rules: [] });
    await cache.ask();
    expect(await cache.ask()).toMatchObject({ status: 204, body: null });
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
    const cache = cacheHarness(ok());
    await cache.ask();
    cache.clock.advance(10_000);
    expect(await cache.status({ headers: headers as unknown as Record<string, string> })).toBe(expected);
  });

  test('with max-age=0 for a new one, also in the moment it was stored', async () => {
    const cache = cacheHarness(ok());
    await cache.ask();
    expect(await cache.status({ headers: { 'cache-control': 'max-age=0' } })).toBe('patchgate; fwd=request; stored');
  });

  test('for nothing but what is there: 504 if it is not', async () => {
    const cache = cacheHarness(ok());
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
  const read = async (reply: ProxyResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of reply.body as Readable) chunks.push(chunk);
    return Buffer.concat(chunks).toString();
  };

  test('is stored once it is whole', async () => {
    const cache = cacheHarness(streaming(['one ', 'two']));
    expect(await read(await cache.ask())).toBe('one two');
    expect(String((await cache.ask()).body)).toBe('one two');
  });

  test('is not stored if it breaks off, grows too large, or is not read to its end', async () => {
    const broken = cacheHarness(streaming(['one'], true));
    await expect(read(await broken.ask())).rejects.toThrow('broken off');
    const large = cacheHarness(streaming(['x'.repeat(600), 'x'.repeat(600)]));
    expect((await read(await large.ask())).length).toBe(1200);
    const left = cacheHarness(streaming(['one', 'two', 'three']));
    const who = caller();
    ((await left.ask({ disconnect: who })).body as Readable).destroy();
    who.leave();
    const short = cacheHarness(streaming(['one'], false, ['Content-Length', '4']));
    await read(await short.ask());
    for (const cache of [broken, large, left, short]) {
      await cache.ask();
      expect(cache.fetched()).toBe(2);
    }
  });
});

test('a body that took longer than its answer is fresh is not stored', async () => {
  const body = new Readable({ read() {} });
  const cache = cacheHarness(() => respond(200, [], body));
  const reply = await cache.ask();
  cache.clock.advance(30_000);
  body.push('late');
  body.push(null);
  await (reply.body as Readable).toArray();
  expect(cache.memory.size()).toEqual({ entries: 0, bytes: 0 });
});

test('a body that streams is said to be stored only where its size is known to fit', async () => {
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
  ])('%s %s drops what is kept of %s: %s', async (method, written, path, dropped) => {
    const cache = cacheHarness(ok());
    await cache.ask({ path });
    await cache.ask({ method, path: written });
    expect(HIT.test((await cache.status({ path })) ?? '')).toBe(!dropped);
  });

  test('that may have been carried out drops, and one that upstream refused does not', async () => {
    let outcome: Result = ok()();
    const cache = cacheHarness(() => outcome);
    for (const [result, dropped] of [
      [reject('upstream_timeout'), true],
      [respond(500, [], null), true],
      [respond(422, [], null), false],
      [reject('account_quota'), false],
    ] as [Result, boolean][]) {
      outcome = ok()();
      await cache.ask();
      outcome = result;
      await cache.ask({ method: 'POST' });
      outcome = ok()();
      expect(HIT.test((await cache.status()) ?? '')).toBe(!dropped);
    }
  });

  test('keeps a GET that was under way from being stored', async () => {
    let release: (outcome: Result) => void = () => {};
    const answers: (Result | Promise<Result>)[] = [
      new Promise<Result>((resolve) => {
        release = resolve;
      }),
      ok()(),
      ok()(),
    ];
    const cache = cacheHarness(() => answers.shift() as Result | Promise<Result>);
    const reading = cache.status();
    await cache.ask({ method: 'POST' });
    release(ok()());
    expect(await reading).toBe('patchgate; fwd=miss');
    expect(await cache.status()).toBe('patchgate; fwd=miss; stored');
  });
});

/** An upstream that answers when a test says so; each request waits for its own answer. */
function held() {
  const waiting: { readonly context: Sendable; readonly answer: (outcome: Result) => void }[] = [];
  const upstream = (context: Sendable) =>
    new Promise<Result>((resolve) => {
      const left = () => resolve(reject('client_closed', { internal: 'caller left' }));
      context.disconnect.onDisconnect(left);
      waiting.push({ context, answer: resolve });
    });
  return { upstream, waiting };
}
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const statusOf = (outcome: ProxyResponse) => headerOf(outcome.headers ?? [], 'cache-status');

describe('requests for the same, at the same time', () => {
  test('are one request upstream, for callers of all tenants, and each has an answer of its own', async () => {
    const { upstream, waiting } = held();
    const cache = cacheHarness(upstream);
    const asked = Array.from({ length: 20 }, (_, i) => cache.ask({ tenant: `t${i % 4}` }));
    await turn();
    expect(waiting).toHaveLength(1);
    waiting[0]?.answer(ok()());
    const answers = await Promise.all(asked);
    expect(answers.map((each) => String(each.body))).toEqual(Array(20).fill('body'));
    expect(answers.filter((each) => statusOf(each) === 'patchgate; fwd=miss; collapsed; ttl=30')).toHaveLength(19);
    expect(new Set(answers.map(({ headers }) => headers)).size).toBe(20);
    expect(cache.saved.filter((each) => each.endsWith('collapsed'))).toHaveLength(19);
  });

  test('do not lose the answer with the one who asked first, also in the middle of its body', async () => {
    const { upstream, waiting } = held();
    const cache = cacheHarness(upstream);
    const [early, late] = [caller(), caller()];
    const asked = [early, late, caller()].map((disconnect) => cache.ask({ disconnect }));
    await turn();
    early.leave();
    await turn();
    const body = new Readable({ read() {} });
    waiting[0]?.answer(respond(200, [], body));
    const first = (await asked[0]) as ProxyResponse;
    body.push('bo');
    (first.body as Readable).destroy();
    late.leave();
    await turn();
    body.push('dy');
    body.push(null);
    expect(String((await asked[2])?.body)).toBe('body');
    expect(waiting).toHaveLength(1);
  });

  test('free what feeds an answer that comes when the last of them has just left', async () => {
    const who = caller();
    const body = new Readable({ read() {} });
    const cache = cacheHarness(async () => {
      who.leave();
      return respond(200, [], body);
    });
    await cache.ask({ disconnect: who });
    expect(body.destroyed).toBe(true);
  });

  test('are given up upstream when the last of them has left', async () => {
    const { upstream, waiting } = held();
    const cache = cacheHarness(upstream);
    const callers = [caller(), caller()];
    const asked = callers.map((disconnect) => cache.ask({ disconnect }));
    await turn();
    for (const each of callers) each.leave();
    await Promise.all(asked);
    expect(waiting[0]?.context.disconnect.happened).toBe(true);
    void cache.ask();
    await turn();
    expect(waiting).toHaveLength(2);
  });

  test('go by themselves, all at once, when the answer is of use to nobody else; and then no longer wait', async () => {
    const { upstream, waiting } = held();
    const cache = cacheHarness(upstream);
    const asked = Array.from({ length: 5 }, () => cache.ask());
    await turn();
    waiting[0]?.answer(ok([], 'none', 404)());
    await turn();
    expect(waiting).toHaveLength(5);
    for (const each of waiting) each.answer(ok([], 'none', 404)());
    expect((await Promise.all(asked)).map(({ status }) => status)).toEqual(Array(5).fill(404));
    void cache.ask();
    void cache.ask();
    await turn();
    expect(waiting).toHaveLength(7);
  });

  test('go by themselves, all at once, when the first fails', async () => {
    const { upstream, waiting } = held();
    const cache = cacheHarness(upstream);
    const asked = Array.from({ length: 3 }, () => cache.ask());
    await turn();
    waiting[0]?.answer(reject('upstream_timeout'));
    await turn();
    for (const each of waiting.slice(1)) each.answer(ok()());
    expect(await Promise.all(asked)).toMatchObject([{ code: 'upstream_timeout' }, { status: 200 }, { status: 200 }]);
  });

  test('of a tenant without quota neither fail nor hold up those of another', async () => {
    let letGo: (refusal: Rejection) => void = () => {};
    const poor = new Promise<Rejection>((resolve) => {
      letGo = resolve;
    });
    const { upstream, waiting } = held();
    const cache = cacheHarness(upstream, { gate: ({ record }) => (record.tenant === 'poor' ? poor : null) });
    const asked = [cache.ask({ tenant: 'poor' }), cache.ask({ tenant: 'poor' }), cache.ask({ tenant: 'rich' })];
    await turn();
    // The rich one has its slot: it is the one who fetches, and the others wait for it.
    expect(waiting).toHaveLength(1);
    waiting[0]?.answer(ok()());
    await turn();
    letGo(reject('queue_timeout'));
    expect((await Promise.all(asked)).map(({ status }) => status)).toEqual([200, 200, 200]);
  });

  test('wait for a slot behind one of their own tenant, and the time counts against their own wait', async () => {
    const patience: WaitTerms[] = [];
    const answers: ((refusal: Rejection) => void)[] = [];
    const cache = cacheHarness(ok(), {
      gate: (_, terms) => {
        patience.push(terms);
        return new Promise((resolve) => answers.push(resolve));
      },
    });
    const asked = [cache.ask(), cache.ask(), cache.ask()];
    await turn();
    expect(patience).toHaveLength(1);
    cache.clock.advance(5_000);
    answers[0]?.(reject('queue_timeout'));
    await turn();
    expect(patience.map(({ waitedMs }) => waitedMs)).toEqual([0, 5_000]);
    answers[1]?.(reject('queue_timeout'));
    await turn();
    answers[2]?.(reject('queue_timeout'));
    expect(await Promise.all(asked)).toMatchObject(Array(3).fill({ code: 'queue_timeout' }));
  });

  test('wait no longer than upstream may take', async () => {
    const { upstream, waiting } = held();
    const cache = cacheHarness(upstream);
    const asked = [cache.ask(), cache.ask()];
    await turn();
    cache.clock.advance(30_000);
    await turn();
    expect(waiting).toHaveLength(2);
    waiting[1]?.answer(ok()());
    expect((await asked[1])?.status).toBe(200);
    waiting[0]?.answer(ok()());
    await asked[0];
  });

  test('do not hold up one who comes after a write: it fetches for itself', async () => {
    const { upstream, waiting } = held();
    const cache = cacheHarness(upstream);
    const before = cache.ask();
    await turn();
    void cache.drops.invalidate('main', EVERYTHING);
    const after = cache.ask();
    await turn();
    expect(waiting).toHaveLength(2);
    waiting[0]?.answer(ok([], 'old')());
    waiting[1]?.answer(ok([], 'new')());
    expect([String((await before).body), String((await after).body)]).toEqual(['old', 'new']);
    expect(String((await cache.ask()).body)).toBe('new');
  });

  test('that want variants which turn out to differ are not given the wrong one', async () => {
    const { upstream, waiting } = held();
    const cache = cacheHarness(upstream);
    const inLanguage = (language: string) => cache.ask({ headers: { 'accept-language': language } });
    const asked = [inLanguage('de'), inLanguage('de'), inLanguage('en')];
    await turn();
    waiting[0]?.answer(ok(['Vary', 'Accept-Language'], 'deutsch')());
    await turn();
    expect(waiting).toHaveLength(2);
    waiting[1]?.answer(ok(['Vary', 'Accept-Language'], 'english')());
    expect((await Promise.all(asked)).map(({ body }) => String(body))).toEqual(['deutsch', 'deutsch', 'english']);
  });

  test('that are known to vary are one request for each variant', async () => {
    const { upstream, waiting } = held();
    const cache = cacheHarness(upstream, { rules: [rule('GET /**', 1_000)] });
    const inLanguage = (language: string, tenant: string) =>
      cache.ask({ headers: { 'accept-language': language }, tenant });
    const first = inLanguage('de', 'one');
    await turn();
    waiting[0]?.answer(ok(['Vary', 'Accept-Language'])());
    await first;
    const asked = ['fr', 'fr', 'en', 'fr', 'en'].map((language, i) => inLanguage(language, `t${i % 2}`));
    await turn();
    expect(waiting).toHaveLength(3);
    for (const { context, answer: give } of waiting.slice(1)) {
      give(ok(['Vary', 'Accept-Language'], String(context.headers['accept-language']))());
    }
    expect((await Promise.all(asked)).map(({ body }) => String(body))).toEqual(['fr', 'fr', 'en', 'fr', 'en']);
    expect(waiting).toHaveLength(3);
  });

  test('with a fault of our own in the first go on by themselves', async () => {
    let calls = 0;
    const cache = cacheHarness(async () => {
      if (calls++ === 0) throw new Error('fault');
      return ok()();
    });
    const asked = [cache.ask(), cache.ask()];
    await expect(asked[0]).rejects.toThrow('fault');
    expect((await asked[1])?.status).toBe(200);
  });

  test('across replicas: joins the flight of another, and gives its slot back', async () => {
    let theirs: (how: FetchResultKind) => void = () => {};
    const landed: string[] = [];
    const others: ReplicaCoalescing = {
      announce: async (_key, _since, ours) => {
        if (landed.length === 0) return { kind: 'theirs', landed: new Promise((resolve) => (theirs = resolve)) };
        void ours.then((how) => landed.push(how));
        return { kind: 'ours', stored: false };
      },
    };
    const cache = cacheHarness(ok(), { replicas: others });
    const asked = [cache.ask(), cache.ask({ tenant: 'two' })];
    await turn();
    expect([cache.fetched(), cache.refunded()]).toEqual([0, 1]);
    landed.push('free');
    theirs('again');
    expect((await Promise.all(asked)).map(({ status }) => status)).toEqual([200, 200]);
    expect(cache.fetched()).toBe(1);
    expect(landed).toEqual(['free', 'stored']);
  });
});

describe('a stale answer', () => {
  const WINDOWS = { staleWhileRevalidateMs: 60_000, staleIfErrorMs: 3_600_000, staleIfThrottledMs: 600_000 };
  const lasting = (upstream: Upstream, windows: Partial<typeof WINDOWS>, gate?: Gate) =>
    cacheHarness(upstream, { rules: [rule('GET /**', 30_000, windows)], ...(gate && { gate }) });

  test('is served at once while it is fetched anew, once for all who ask, in the background', async () => {
    const { upstream, waiting } = held();
    const terms: WaitTerms[] = [];
    const cache = lasting(upstream, { staleWhileRevalidateMs: 60_000 }, (_, each) => {
      terms.push(each);
      return null;
    });
    const first = cache.ask();
    await turn();
    waiting[0]?.answer(ok([], 'old')());
    await first;
    cache.clock.advance(31_000);
    for (const tenant of ['one', 'two', 'one']) {
      const stale = await cache.ask({ tenant });
      expect([String(stale.body), statusOf(stale), headerOf(stale.headers, 'age')]).toEqual([
        'old',
        'patchgate; hit; ttl=-1; detail=stale-while-revalidate',
        '31',
      ]);
    }
    expect(waiting).toHaveLength(2);
    expect(terms[1]).toMatchObject({ maxWaitMs: 0, background: true });
    waiting[1]?.answer(ok([], 'new')());
    await cache.rested();
    expect(String((await cache.ask()).body)).toBe('new');
    expect(cache.saved.filter((each) => each.endsWith('stale'))).toHaveLength(3);
  });

  test('whose refresh is in vain is not fetched anew with every request', async () => {
    let fails = false;
    const cache = lasting(() => (fails ? reject('account_quota') : ok()()), { staleWhileRevalidateMs: 60_000 });
    await cache.ask();
    fails = true;
    cache.clock.advance(31_000);
    for (let i = 0; i < 5; i++) {
      await cache.ask();
      await cache.rested();
    }
    expect(cache.fetched()).toBe(2);
    cache.clock.advance(10_001);
    await cache.ask();
    await cache.rested();
    expect(cache.fetched()).toBe(3);
  });

  test.each<[string, Result]>([
    ['500', respond(500, [], Buffer.from('Server Error'))],
    ['503', respond(503, [], Buffer.from('down'))],
    ['a timeout', reject('upstream_timeout')],
    ['no connection', reject('upstream_unreachable')],
    ['an open breaker', reject('breaker_open')],
  ])('is served for an hour when upstream answers with %s, and then no more', async (_name, failure) => {
    let outcome: Result = ok()();
    const cache = lasting(() => outcome, { staleIfErrorMs: 3_600_000 });
    await cache.ask();
    outcome = failure;
    cache.clock.advance(40_000);
    expect(await cache.status()).toBe('patchgate; hit; ttl=-10; detail=stale-if-error');
    const tried = cache.fetched();
    expect(await cache.status()).toBe('patchgate; hit; ttl=-10; detail=stale-if-error');
    // Nobody waits for an upstream that has just failed.
    expect(cache.fetched()).toBe(tried);
    cache.clock.advance(3_589_000);
    expect(await cache.status()).toMatch(/stale-if-error/);
    cache.clock.advance(2_000);
    expect(await cache.ask()).toMatchObject(
      failure.kind === 'response' ? { status: failure.status } : { code: failure.code },
    );
  });

  test('is served instead of a 429, after no long wait; an answer in time goes first', async () => {
    const quota: { refusal: Rejection | null } = { refusal: null };
    const terms: WaitTerms[] = [];
    const cache = lasting(ok(), { staleIfThrottledMs: 600_000 }, (_, each) => {
      terms.push(each);
      return quota.refusal;
    });
    await cache.ask();
    cache.clock.advance(31_000);
    for (const code of ['tenant_quota', 'account_quota', 'queue_timeout', 'upstream_cooldown'] as const) {
      quota.refusal = reject(code);
      expect(await cache.status()).toBe('patchgate; hit; ttl=-1; detail=stale-if-throttled');
    }
    expect(terms.at(-1)?.maxWaitMs).toBe(1_000);
    quota.refusal = null;
    expect(await cache.status()).toBe('patchgate; fwd=stale; stored');
    cache.clock.advance(630_000);
    quota.refusal = reject('tenant_quota');
    expect(await cache.ask()).toMatchObject({ code: 'tenant_quota' });
  });

  test.each(['no-cache', 'max-age=3600', 'min-fresh=1'])('is not for one who asks for %s', async (field) => {
    let outcome: Result = ok()();
    const cache = lasting(() => outcome, WINDOWS);
    await cache.ask();
    outcome = reject('upstream_timeout');
    cache.clock.advance(31_000);
    expect(await cache.ask({ headers: { 'cache-control': field } })).toMatchObject({ code: 'upstream_timeout' });
  });

  test('is served to one who wants nothing but what is stored', async () => {
    const cache = lasting(ok(), { staleWhileRevalidateMs: 60_000 });
    await cache.ask();
    cache.clock.advance(31_000);
    expect(await cache.status({ headers: { 'cache-control': 'only-if-cached' } })).toMatch(/stale-while-revalidate/);
  });

  test('that a write has touched is served by no window', async () => {
    let outcome: Result = ok()();
    const cache = lasting(() => outcome, WINDOWS);
    await cache.ask();
    void cache.drops.invalidate('main', EVERYTHING);
    outcome = reject('upstream_timeout');
    cache.clock.advance(31_000);
    expect(await cache.ask()).toMatchObject({ code: 'upstream_timeout' });
  });

  test('is served to those who waited for the flight that failed', async () => {
    const { upstream, waiting } = held();
    const cache = lasting(upstream, { staleIfErrorMs: 60_000 });
    const first = cache.ask();
    await turn();
    waiting[0]?.answer(ok()());
    await first;
    cache.clock.advance(31_000);
    const asked = [cache.ask(), cache.ask()];
    await turn();
    waiting[1]?.answer(reject('upstream_timeout'));
    expect((await Promise.all(asked)).map(statusOf)).toEqual(Array(2).fill(expect.stringMatching(/stale-if-error/)));
    expect(waiting).toHaveLength(2);
  });
});

describe('validation', () => {
  test("a caller's own tag is compared with the gateway's, also on the way of a miss", async () => {
    const cache = cacheHarness(ok());
    const first = await cache.ask();
    const tag = headerOf(first.headers, 'etag') ?? '';
    expect(tag).toMatch(/^"pg-[\w-]{22}"$/);
    const again = await cache.ask({ headers: { 'if-none-match': `"other", W/${tag}` } });
    expect([again.status, again.body, headerOf(again.headers, 'etag')]).toEqual([304, null, tag]);
    cache.clock.advance(30_000);
    const fetched = await cache.ask({ headers: { 'if-none-match': tag } });
    expect([fetched.status, statusOf(fetched)]).toEqual([304, 'patchgate; fwd=miss; stored']);
    // For everybody's sake it was asked for without the condition of one.
    expect(cache.requests.map(({ rawHeaders }) => rawHeaders)).toEqual([[], []]);
    expect((await cache.ask({ headers: { 'if-none-match': '"other"' } })).status).toBe(200);
  });

  test('a tag of upstream stays, and goes up again when the answer is stale: a 304 freshens what is stored', async () => {
    let outcome: Result = ok(['ETag', '"theirs"', 'X-A', 'old', 'X-B', 'kept'])();
    const cache = cacheHarness(() => outcome);
    await cache.ask();
    cache.clock.advance(31_000);
    outcome = respond(304, ['ETag', '"theirs"', 'X-A', 'new', 'Content-Length', '0'], null);
    const confirmed = await cache.ask();
    expect(cache.requests[1]?.rawHeaders).toEqual(['If-None-Match', '"theirs"']);
    expect([confirmed.status, String(confirmed.body), statusOf(confirmed)]).toEqual([
      200,
      'body',
      'patchgate; fwd=stale; stored; fwd-status=304',
    ]);
    const hit = await cache.ask();
    expect(statusOf(hit)).toBe('patchgate; hit; ttl=30');
    expect([headerOf(hit.headers, 'x-a'), headerOf(hit.headers, 'x-b')]).toEqual(['new', 'kept']);
  });

  test("without a rule and with nothing stored, a caller's condition goes upstream as it is", async () => {
    const cache = cacheHarness(() => respond(304, ['ETag', '"a"'], null), { rules: [] });
    const reply = await cache.ask({ headers: { 'if-none-match': '"a"' } });
    expect([reply.status, statusOf(reply)]).toEqual([304, 'patchgate; fwd=miss']);
    expect(cache.requests[0]?.rawHeaders).toEqual(['if-none-match', '"a"']);
  });
});
