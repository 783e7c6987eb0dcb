import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { answer, headerOf, type Outcome, refuse } from '../exchange.ts';
import type { ProblemCode } from '../problem.ts';
import { parsePattern, splitPath } from '../routing/pattern.ts';
import { createDrops } from './drops.ts';
import type { Cacheable, CacheOptions, InvalidationRule } from './options.ts';
import { writeHandler } from './writes.ts';

function writing(invalidate: InvalidationRule[] = []) {
  const drops = createDrops();
  const clock = new ManualClock();
  const options = {
    drops,
    invalidate,
    rules: [],
    maxEntryBytes: 1,
    lateArrivalMs: 15_000,
    clock,
  } as unknown as CacheOptions;
  const write = writeHandler<Cacheable>(options);
  const send = (method: string, path: string, next: () => Outcome | Promise<Outcome>) =>
    write(
      {
        method,
        segments: splitPath(path),
        target: path,
        route: { upstream: { id: 'start', account: 'main', origin: 'http://start.test' } },
      } as unknown as Cacheable,
      next,
    );
  const untouched = (path: string, since = 0) =>
    drops.untouchedSince('main', { segments: splitPath(path), tags: [] }, since);
  return { send, untouched, clock, latest: () => drops.latest('main') };
}

function ruleAfter(text: string, drop: string[]): InvalidationRule {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  return { after: parsed.pattern, drop };
}

describe('a write', () => {
  test('drops before its answer goes out', async () => {
    const { send, untouched } = writing();
    const outcome = await send('PATCH', '/api/v1/flows/1', async () => {
      expect(untouched('/api/v1/flows')).toBe(true);
      return answer(200, [], null);
    });
    expect(untouched('/api/v1/flows')).toBe(false);
    expect(outcome.kind === 'answer' && headerOf(outcome.headers, 'cache-status')).toBe('patchgate; fwd=method');
  });

  test('drops what every matching rule names, and nothing that a rule for another write names', () => {
    const { send, untouched } = writing([
      ruleAfter('* /api/v1/flows/**', ['/api/v1/flow-versions/**']),
      ruleAfter('POST /api/v1/**', ['/api/v1/caches/*']),
      ruleAfter('DELETE /api/v1/**', ['/api/v1/systems/**']),
    ]);
    void send('POST', '/api/v1/flows/1', () => answer(201, [], null));
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

  test.each([200, 201, 204, 302, 303, 500, 502, 504])('answered %i drops', (status) => {
    const { send, untouched } = writing();
    void send('PUT', '/a/1', () => answer(status, [], null));
    expect(untouched('/a/1')).toBe(false);
  });

  test.each([400, 403, 404, 409, 422])('answered %i leaves the cache alone', (status) => {
    const { send, untouched } = writing();
    void send('PUT', '/a/1', () => answer(status, [], null));
    expect(untouched('/a/1')).toBe(true);
  });

  test.each<[string, boolean]>([
    ['upstream_timeout', true],
    ['upstream_protocol', true],
    ['internal', true],
    ['upstream_unreachable', false],
    ['tenant_quota', false],
    ['queue_timeout', false],
    ['body_too_large', false],
    ['breaker_open', false],
  ])('refused as %s: dropped %s', (code, dropped) => {
    const { send, untouched } = writing();
    void send('PUT', '/a/1', () => refuse(code as ProblemCode));
    expect(untouched('/a/1')).toBe(!dropped);
  });

  test('that may still be carried out later drops once more by then', () => {
    const { send, untouched, clock, latest } = writing();
    void send('PUT', '/a/1', () => refuse('upstream_timeout'));
    const then = latest();
    clock.advance(14_999);
    expect(untouched('/a/1', then)).toBe(true);
    clock.advance(1);
    expect(untouched('/a/1', then)).toBe(false);
  });

  test.each(['Location', 'Content-Location'])('drops what its %s names on the same upstream', (name) => {
    const { send, untouched } = writing();
    void send('POST', '/a/1', () => answer(201, [name, 'http://start.test/b/2?x=1'], null));
    void send('POST', '/a/1', () => answer(201, [name, '/c/3'], null));
    void send('POST', '/a/1', () => answer(201, [name, 'http://other.test/d/4'], null));
    void send('POST', '/a/1', () => answer(201, [name, 'http://[', 'Content-Location', '/%ff'], null));
    expect(['/b/2', '/b/3', '/c/3', '/d/4'].map((path) => untouched(path))).toEqual([false, true, false, true]);
  });

  test('that fails in our own hands drops, and the failure goes on', async () => {
    const later = writing();
    await expect(later.send('PUT', '/a/1', () => Promise.reject(new Error('fault')))).rejects.toThrow('fault');
    const atOnce = writing();
    expect(() =>
      atOnce.send('PUT', '/a/1', () => {
        throw new Error('fault');
      }),
    ).toThrow('fault');
    expect([later.untouched('/a/1'), atOnce.untouched('/a/1')]).toEqual([false, false]);
  });
});
