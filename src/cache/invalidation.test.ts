import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { headerOf, type Result, reject, respond } from '../context.ts';
import type { ProblemCode } from '../problem.ts';
import { parsePattern, splitPath } from '../routing/pattern.ts';
import { invalidateAfterWrite } from './invalidation.ts';
import { createInvalidationLog } from './invalidation-log.ts';
import type { CacheableContext, CacheOptions, InvalidationRule } from './options.ts';

function writing(invalidate: InvalidationRule[] = []) {
  const drops = createInvalidationLog();
  const clock = new ManualClock();
  const options = {
    invalidations: drops,
    invalidate,
    rules: [],
    maxEntryBytes: 1,
    lateArrivalMs: 15_000,
    clock,
  } as unknown as CacheOptions;
  const write = invalidateAfterWrite<CacheableContext>(options);
  const send = (method: string, path: string, next: () => Result | Promise<Result>) =>
    write(
      {
        method,
        segments: splitPath(path),
        target: path,
        route: { upstream: { id: 'start', account: 'main', origin: 'http://start.test' } },
      } as unknown as CacheableContext,
      async () => next(),
    );
  const untouched = (path: string, since = 0) =>
    drops.isValidSince('main', { segments: splitPath(path), tags: [] }, since);
  return { send, untouched, clock, latest: () => drops.latestWrite('main') };
}

function ruleAfter(text: string, drop: string[]): InvalidationRule {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  return { after: parsed.pattern, drop: drop };
}

describe('a write', () => {
  test('drops before its answer goes out', async () => {
    const { send, untouched } = writing();
    const outcome = await send('PATCH', '/api/v1/flows/1', async () => {
      expect(untouched('/api/v1/flows')).toBe(true);
      return respond(200, [], null);
    });
    expect(untouched('/api/v1/flows')).toBe(false);
    expect(outcome.kind === 'response' && headerOf(outcome.headers, 'cache-status')).toBe('patchgate; fwd=method');
  });

  test('drops what every matching rule names, and nothing that a rule for another write names', async () => {
    const { send, untouched } = writing([
      ruleAfter('* /api/v1/flows/**', ['/api/v1/flow-versions/**']),
      ruleAfter('POST /api/v1/**', ['/api/v1/caches/*']),
      ruleAfter('DELETE /api/v1/**', ['/api/v1/systems/**']),
    ]);
    await send('POST', '/api/v1/flows/1', () => respond(201, [], null));
    expect([
      untouched('/api/v1/flow-versions/7/steps'),
      untouched('/api/v1/caches/1'),
      untouched('/api/v1/caches'),
      untouched('/api/v1/systems'),
    ]).toEqual([false, false, true, true]);
  });

  test('a rule that is no path is found at the start, not at the first write', () => {
    expect(() => writing([ruleAfter('* /a', ['no-slash'])])).toThrow('must begin with /');
  });

  test.each([200, 201, 204, 302, 303, 500, 502, 504])('answered %i drops', async (status) => {
    const { send, untouched } = writing();
    await send('PUT', '/a/1', () => respond(status, [], null));
    expect(untouched('/a/1')).toBe(false);
  });

  test.each([400, 403, 404, 409, 422])('answered %i leaves the cache alone', async (status) => {
    const { send, untouched } = writing();
    await send('PUT', '/a/1', () => respond(status, [], null));
    expect(untouched('/a/1')).toBe(true);
  });

  test.each<[string, boolean]>([
    ['upstream_timeout', true],
    ['upstream_protocol', true],
    ['internal', true],
    ['client_closed', true],
    ['upstream_unreachable', false],
    ['tenant_quota', false],
    ['queue_timeout', false],
    ['body_too_large', false],
    ['breaker_open', false],
  ])('refused as %s: dropped %s', async (code, dropped) => {
    const { send, untouched } = writing();
    await send('PUT', '/a/1', () => reject(code as ProblemCode));
    expect(untouched('/a/1')).toBe(!dropped);
  });

  test('that may still be carried out later drops once more by then', async () => {
    const { send, untouched, clock, latest } = writing();
    await send('PUT', '/a/1', () => reject('upstream_timeout'));
    const then = latest();
    clock.advance(14_999);
    expect(untouched('/a/1', then)).toBe(true);
    clock.advance(1);
    expect(untouched('/a/1', then)).toBe(false);
  });

  test.each(['Location', 'Content-Location'])('drops what its %s names on the same upstream', async (name) => {
    const { send, untouched } = writing();
    await send('POST', '/a/1', () => respond(201, [name, 'http://start.test/b/2?x=1'], null));
    await send('POST', '/a/1', () => respond(201, [name, '/c/3'], null));
    await send('POST', '/a/1', () => respond(201, [name, 'http://other.test/d/4'], null));
    await send('POST', '/a/1', () => respond(201, [name, 'http://[', 'Content-Location', '/%ff'], null));
    expect(['/b/2', '/b/3', '/c/3', '/d/4'].map((path) => untouched(path))).toEqual([false, true, false, true]);
  });

  test('that fails in our own hands drops, and the failure goes on', async () => {
    const { send, untouched } = writing();
    await expect(send('PUT', '/a/1', () => Promise.reject(new Error('fault')))).rejects.toThrow('fault');
    expect(untouched('/a/1')).toBe(false);
  });
});
