import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { heapBytes } from '../../test/support/heap.ts';
import { matchesPath, splitPath } from '../routing/pattern.ts';
import { createInvalidationLog, EVERYTHING, writtenCollection } from './invalidation-log.ts';

const FLOWS = ['api', 'v1', 'flows', '**'];
const FLOW = { segments: ['api', 'v1', 'flows', '1'], tags: ['definitions'] };
const SCRIPTS = ['api', 'v1', 'scripts'];

describe('the invalidation log', () => {
  test('a response from before a write is invalid, one that was requested after it is valid', () => {
    const log = createInvalidationLog();
    const before = log.latestWrite('main');
    log.invalidate('main', { patterns: [FLOWS] });
    expect(log.isValidSince('main', FLOW, before)).toBe(false);
    expect(log.isValidSince('main', FLOW, log.latestWrite('main'))).toBe(true);
    expect(log.isValidSince('main', { segments: SCRIPTS, tags: [] }, before)).toBe(true);
  });

  test('a tag invalidates responses on any path', () => {
    const log = createInvalidationLog();
    log.invalidate('main', { patterns: [], tags: ['definitions'] });
    expect(log.isValidSince('main', FLOW, 0)).toBe(false);
    expect(log.isValidSince('main', { ...FLOW, tags: ['other'] }, 0)).toBe(true);
  });

  test('a write to one account does not invalidate responses of another', () => {
    const log = createInvalidationLog();
    log.invalidate('main', EVERYTHING);
    expect(log.isValidSince('other', FLOW, 0)).toBe(true);
  });

  test('responses older than the oldest logged write count as invalid', () => {
    const log = createInvalidationLog(2);
    for (let i = 0; i < 4; i++) log.invalidate('main', { patterns: [SCRIPTS] });
    expect(log.isValidSince('main', FLOW, 0)).toBe(false);
    expect(log.isValidSince('main', FLOW, 3)).toBe(true);
  });

  test('keeps fewer writes to paths that are as long as callers like, and older responses count as invalid', () => {
    const log = createInvalidationLog();
    const long = (i: number) => ['api', 'v1', `${'x'.repeat(32_000)}${i}`];
    for (let i = 1; i <= 1_000; i++) log.invalidate('main', { patterns: [long(i)] });
    // Some 260 to 520 of them are kept.
    expect(log.isValidSince('main', FLOW, 400)).toBe(false);
    expect(log.isValidSince('main', FLOW, 800)).toBe(true);
    expect(log.isValidSince('main', { segments: long(900), tags: [] }, 800)).toBe(false);
    for (let i = 0; i < 3; i++) log.invalidate('main', { patterns: [['x'.repeat(20_000_000)]] });
    expect(log.isValidSince('main', FLOW, 1_002)).toBe(true);
  });

  test('keeps no more of a target than the pattern', () => {
    const log = createInvalidationLog();
    const before = heapBytes();
    for (let i = 0; i < 1_000; i++) {
      const target = Buffer.from(`/api/v1/flow-templates-and-more/${'x'.repeat(30_000)}${i}`).toString();
      log.invalidate('main', { patterns: [[...splitPath(target).slice(0, 3), '**']] });
    }
    expect(heapBytes() - before).toBeLessThan(5_000_000);
  });

  test('never reports a response as valid that an unbounded log would report as invalid', () => {
    const path = fc.constantFrom('/a', '/a/1', '/a/2', '/b', '/b/1').map(splitPath);
    const written = fc.constantFrom(['a', '**'], ['a', '*'], ['b'], ['**']);
    const steps = fc.array(fc.tuple(path, written), { maxLength: 30 });
    fc.assert(
      fc.property(steps, path, fc.nat(30), fc.integer({ min: 1, max: 5 }), (writes, asked, from, remembered) => {
        const log = createInvalidationLog(remembered);
        for (const [, pattern] of writes) log.invalidate('main', { patterns: [pattern] });
        const since = Math.min(from, writes.length);
        const invalidated = writes.slice(since).some(([, pattern]) => matchesPath(pattern, asked));
        if (invalidated) expect(log.isValidSince('main', { segments: asked, tags: [] }, since)).toBe(false);
        // While the log reaches back, no response is invalidated without need.
        else if (writes.length - since <= remembered)
          expect(log.isValidSince('main', { segments: asked, tags: [] }, since)).toBe(true);
      }),
    );
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
