import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { heapBytes } from '../../../test/support/heap.ts';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import { EVERYTHING } from '../../cache/invalidation.ts';
import type { CacheEntry, StoredResponse } from '../../cache/store.ts';
import type { Meter } from '../../ports.ts';
import { matchesPath, splitPath } from '../../routing/pattern.ts';
import { createInvalidationLog, createMemoryCache, createTieredCache } from './cache.ts';

function memory(maxBytes = 100_000) {
  const clock = new ManualClock();
  const counted: string[] = [];
  const meter = {
    cacheOperation: (tier: string, outcome: string) => counted.push(`${tier} ${outcome}`),
  } as unknown as Meter;
  const store = createMemoryCache({ maxBytes, clock, meter });
  const entry = (bodyBytes: number, headers: string[] = []): StoredResponse => ({
    kind: 'response',
    status: 200,
    headers,
    body: Buffer.alloc(bodyBytes),
    storedAt: clock.now(),
    receivedAt: clock.monotonic(),
    requestedAt: clock.monotonic(),
    initialAgeMs: 0,
    freshForMs: 1000,
    stale: { staleWhileRevalidateMs: 0, staleIfErrorMs: 0, staleIfThrottledMs: 0 },
    generatedEtag: null,
    tags: [],
    validUpToWrite: 0,
  });
  return { clock, counted, store, entry };
}

describe('the memory cache', () => {
  test('returns an entry synchronously until it expires', () => {
    const { clock, store, entry } = memory();
    const kept = entry(1);
    store.set('key', kept, 1000);
    clock.advance(999);
    expect(store.get('key')).toBe(kept);
    clock.advance(1);
    expect(store.get('key')).toBeUndefined();
    expect(store.size()).toEqual({ entries: 0, bytes: 0 });
  });

  test('frees what a purge names, in one account, and says how many responses were still served', () => {
    const { clock, store, entry } = memory();
    const key = (account: string, path: string) =>
      [account, 'ns', 'core', path, 'page=1', 'application/json'].join('\n');
    store.set(key('main', '/api/v1/flows'), { kind: 'vary', fields: ['accept-language'] }, 1000);
    store.set(key('main', '/api/v1/flows/1'), entry(1), 1000);
    store.set(key('main', '/api/v1/flows/a%20b'), entry(1), 100);
    store.set(key('main', '/api/v1/agents'), { ...entry(1), tags: ['a'] }, 1000);
    store.set(key('other', '/api/v1/flows/1'), entry(1), 1000);
    clock.advance(500);
    expect(store.purge('main', { patterns: [['api', 'v1', 'flows', '**']] })).toEqual({ responses: 1 });
    expect(store.size().entries).toBe(3);
    expect(store.purge('main', { patterns: [], tags: ['a'] })).toEqual({ responses: 1 });
    expect(store.purge('main', { patterns: [['**']] })).toEqual({ responses: 0 });
    expect(store.purge('other', { patterns: [['**']] })).toEqual({ responses: 1 });
    expect(createMemoryCache({ maxBytes: 0, clock, meter: {} as Meter }).purge('main', { patterns: [['**']] })).toEqual(
      {
        responses: 0,
      },
    );
  });

  test('does not keep an entry longer when the wall clock steps back', () => {
    const { clock, store, entry } = memory();
    store.set('key', entry(1), 1000);
    clock.stepWall(-3_600_000);
    clock.advance(1000);
    expect(store.get('key')).toBeUndefined();
  });

  test.each<[string, (m: ReturnType<typeof memory>) => [string, CacheEntry]]>([
    ['bodies', ({ entry }) => ['key', entry(5000)]],
    ['headers', ({ entry }) => ['key', entry(0, ['X', 'x'.repeat(2500)])]],
    ['keys', ({ entry }) => ['k'.repeat(2500), entry(0)]],
    ['Vary records', () => ['k'.repeat(2500), { kind: 'vary', fields: ['origin'] }]],
  ])('is bounded in bytes, and %s count', (_name, make) => {
    const m = memory(50_000);
    for (let i = 0; i < 100; i++) {
      const [key, entry] = make(m);
      m.store.set(`${key}${i}`, entry, 1000);
    }
    expect(m.store.size()?.bytes).toBeLessThanOrEqual(50_000);
    expect(m.store.size()?.entries).toBeLessThanOrEqual(10);
    expect(m.counted.filter((each) => each === 'memory evict').length).toBeGreaterThanOrEqual(90);
  });

  test('evicts the least recently used entry first', () => {
    const { store, entry } = memory(5000);
    store.set('old', entry(1500), 1000);
    store.set('used', entry(1500), 1000);
    void store.get('old');
    store.set('new', entry(1500), 1000);
    expect([store.get('old') !== undefined, store.get('used') !== undefined]).toEqual([true, false]);
  });

  test('skips an entry larger than the cache, evicts no other one, and removes the previous one of the same key', () => {
    const { counted, store, entry } = memory(5000);
    store.set('other', entry(1), 1000);
    store.set('key', entry(1), 1000);
    store.set('key', entry(6000), 1000);
    expect([store.get('key'), store.get('other') !== undefined]).toEqual([undefined, true]);
    expect(counted).toContain('memory skip');
  });

  test('counts a response once, also one that varies', () => {
    const { clock, counted, store, entry } = memory();
    void store.get('key');
    store.set('key', { kind: 'vary', fields: ['origin'] }, 1000);
    store.set('variant', entry(1), 1000);
    void store.get('key');
    void store.get('variant');
    clock.advance(1000);
    void store.get('key');
    expect(counted).toEqual(['memory miss', 'memory store', 'memory hit', 'memory miss']);
  });

  test('of size 0 stores nothing', () => {
    const { store, entry } = memory(0);
    store.set('key', entry(1), 1000);
    expect([store.get('key'), store.size()]).toEqual([undefined, { entries: 0, bytes: 0 }]);
  });
});

test('a hit in memory reads nothing from the shared tier, whose entries are copied to memory', async () => {
  const { clock, store, entry } = memory();
  const shared = new Map<string, CacheEntry>();
  const reads: string[] = [];
  const tiered = createTieredCache(store, {
    get: async (key) => {
      reads.push(key);
      const found = shared.get(key);
      return found && { entry: found, keepMs: 500 };
    },
    set: (key, each) => void shared.set(key, each),
  });
  tiered.set('own', entry(1), 1000);
  const other = entry(2);
  shared.set('other', other);
  expect(tiered.get('own')).toBe(shared.get('own'));
  expect(await tiered.get('other')).toBe(other);
  expect(tiered.get('other')).toBe(other);
  expect(reads).toEqual(['other']);
  clock.advance(500);
  expect(store.get('other')).toBeUndefined();
  tiered.delete('own');
  expect(await tiered.getShared('own')).toBeDefined();
});

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
