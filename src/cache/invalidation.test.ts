import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createInvalidationLog } from '../adapters/memory/cache.ts';
import { type Result, reject, respond } from '../context.ts';
import type { ProblemCode } from '../problem.ts';
import { parsePattern, splitPath } from '../routing/pattern.ts';
import { invalidateAfterWrite, writtenCollection } from './invalidation.ts';
import type { CacheableContext, CacheOptions, InvalidationRule } from './options.ts';

function writing(invalidate: InvalidationRule[] = [], attempts = 1) {
  const invalidations = createInvalidationLog();
  const clock = new ManualClock();
  const options = {
    invalidations,
    invalidate,
    rules: [],
    maxEntryBytes: 1,
    clock,
  } as unknown as CacheOptions;
  let respondWith: () => Result | Promise<Result>;
  const write = invalidateAfterWrite<CacheableContext>(options, async () => respondWith());
  const send = (method: string, path: string, next: () => Result | Promise<Result>) => {
    respondWith = next;
    return write({
      method,
      segments: splitPath(path),
      target: path,
      trace: null,
      record: { attempts },
      route: { upstream: { id: 'start', account: 'main', origin: 'http://start.test' }, rewrite: null },
    } as unknown as CacheableContext);
  };
  const isValid = (path: string, since = 0) =>
    invalidations.isValidSince('main', { segments: splitPath(path), tags: [] }, since);
  return { send, isValid, clock, latest: () => invalidations.latestWrite('main') };
}

function ruleAfter(text: string, drop: string[]): InvalidationRule {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  return { after: parsed.pattern, drop };
}

describe('a write', () => {
  test('invalidates before its response goes out', async () => {
    const { send, isValid } = writing();
    await send('PATCH', '/api/v1/flows/1', async () => {
      expect(isValid('/api/v1/flows')).toBe(true);
      return respond(200, [], null);
    });
    expect(isValid('/api/v1/flows')).toBe(false);
  });

  test('invalidates the paths of every matching rule, and none of a rule for other writes', async () => {
    const { send, isValid } = writing([
      ruleAfter('* /api/v1/flows/**', ['/api/v1/flow-versions/**']),
      ruleAfter('POST /api/v1/**', ['/api/v1/caches/*']),
      ruleAfter('DELETE /api/v1/**', ['/api/v1/systems/**']),
    ]);
    await send('POST', '/api/v1/flows/1', () => respond(201, [], null));
    expect([
      isValid('/api/v1/flow-versions/7/steps'),
      isValid('/api/v1/caches/1'),
      isValid('/api/v1/caches'),
      isValid('/api/v1/systems'),
    ]).toEqual([false, false, true, true]);
  });

  test('with a malformed rule is an error at construction, not at the first write', () => {
    expect(() => writing([ruleAfter('* /a', ['no-slash'])])).toThrow('must begin with /');
  });

  test.each([200, 201, 204, 302, 303, 500, 502, 504])('with response %i invalidates', async (status) => {
    const { send, isValid } = writing();
    await send('PUT', '/a/1', () => respond(status, [], null));
    expect(isValid('/a/1')).toBe(false);
  });

  test.each([400, 403, 404, 409, 422])('with response %i does not invalidate', async (status) => {
    const { send, isValid } = writing();
    await send('PUT', '/a/1', () => respond(status, [], null));
    expect(isValid('/a/1')).toBe(true);
  });

  test.each<[ProblemCode, number, boolean]>([
    ['upstream_timeout', 1, true],
    ['upstream_protocol', 1, true],
    ['client_closed', 1, true],
    ['client_closed', 0, false],
    ['upstream_unreachable', 2, false],
    ['tenant_quota', 0, false],
    ['queue_timeout', 0, false],
    ['body_too_large', 0, false],
    ['breaker_open', 0, false],
  ])('rejected as %s after %i attempts: invalidates %s', async (code, attempts, invalidates) => {
    const { send, isValid } = writing([], attempts);
    await send('PUT', '/a/1', () => reject(code));
    expect(isValid('/a/1')).toBe(!invalidates);
  });

  test('that may still be carried out later invalidates again by then', async () => {
    const { send, isValid, clock, latest } = writing();
    await send('PUT', '/a/1', () => reject('upstream_timeout'));
    const then = latest();
    clock.advance(14_999);
    expect(isValid('/a/1', then)).toBe(true);
    clock.advance(1);
    expect(isValid('/a/1', then)).toBe(false);
  });

  test.each(['Location', 'Content-Location'])(
    'invalidates the resource in its %s on the same upstream',
    async (name) => {
      const { send, isValid } = writing();
      await send('POST', '/a/1', () => respond(201, [name, 'http://start.test/b/2?x=1'], null));
      await send('POST', '/a/1', () => respond(201, [name, '/c/3'], null));
      await send('POST', '/a/1', () => respond(201, [name, 'http://other.test/d/4'], null));
      await send('POST', '/a/1', () => respond(201, [name, 'http://[', 'Content-Location', '/%ff'], null));
      expect(['/b/2', '/b/3', '/c/3', '/d/4'].map((path) => isValid(path))).toEqual([false, true, false, true]);
    },
  );

  test.each(['*', '**', '%2A', '%2a%2A'])(
    'with a path or Location that has the segment %s invalidates that path only',
    async (star) => {
      const { send, isValid } = writing();
      const decoded = decodeURIComponent(star);
      for (const path of [
        `/${decoded}`,
        `/${decoded}/b`,
        `/a/${decoded}`,
        `/a/${decoded}/c`,
        `/${decoded}/${decoded}`,
      ]) {
        await send('POST', path, () =>
          respond(201, ['Location', `/e/${star}/${star}`, 'Content-Location', `/${star}`], null),
        );
      }
      expect(['/x', '/x/y', '/e/f/g', '/e/f', '/b', '/x/b'].map((path) => isValid(path))).toEqual(Array(6).fill(true));
      expect(
        [`/${decoded}`, `/${decoded}/b`, '/a', `/a/${decoded}`, `/e/${decoded}/${decoded}`].map((path) =>
          isValid(path),
        ),
      ).toEqual(Array(5).fill(false));
    },
  );

  test('that fails by a fault of the gateway invalidates, and the error is passed on', async () => {
    const { send, isValid } = writing();
    await expect(send('PUT', '/a/1', () => Promise.reject(new Error('fault')))).rejects.toThrow('fault');
    expect(isValid('/a/1')).toBe(false);
  });
});

test.each([
  ['/api/v1/flows', '/api/v1/flows/**'],
  ['/api/v1/flows/1', '/api/v1/flows/**'],
  ['/api/v1/flow-runs/1/retry', '/api/v1/flow-runs/1/**'],
  ['/fabric/api/v2/companies/1', '/fabric/api/v2/companies/**'],
  ['/things/1', '/things/**'],
  ['/things', '/things/**'],
  ['/', '/'],
  ['/api/v1', '/api/v1'],
])('a write to %s invalidates %s: the collection, never the whole API', (path, pattern) => {
  expect(`/${writtenCollection(splitPath(path)).join('/')}`).toBe(pattern);
});
