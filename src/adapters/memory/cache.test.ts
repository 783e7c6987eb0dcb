import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import type { CacheEntry, StoredResponse } from '../../cache/store.ts';
import type { Meter } from '../../ports.ts';
import { createMemoryCache } from './cache.ts';

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

describe('memory', () => {
  test('gives back what it was given, at once, until its time is over', () => {
    const { clock, store, entry } = memory();
    const kept = entry(1);
    store.set('key', kept, 1000);
    clock.advance(999);
    expect(store.get('key')).toBe(kept);
    clock.advance(1);
    expect(store.get('key')).toBeUndefined();
    expect(store.size()).toEqual({ entries: 0, bytes: 0 });
  });

  test('a wall clock stepped back lengthens no life', () => {
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
    ['signposts', () => ['k'.repeat(2500), { kind: 'vary', fields: ['origin'] }]],
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

  test('what was not asked for longest goes first', () => {
    const { store, entry } = memory(5000);
    store.set('old', entry(1500), 1000);
    store.set('used', entry(1500), 1000);
    void store.get('old');
    store.set('new', entry(1500), 1000);
    expect([store.get('old') !== undefined, store.get('used') !== undefined]).toEqual([true, false]);
  });

  test('an entry larger than all of it is skipped, takes nothing else along, and leaves no older one behind', () => {
    const { counted, store, entry } = memory(5000);
    store.set('other', entry(1), 1000);
    store.set('key', entry(1), 1000);
    store.set('key', entry(6000), 1000);
    expect([store.get('key'), store.get('other') !== undefined]).toEqual([undefined, true]);
    expect(counted).toContain('memory skip');
  });

  test('counts an answer once, also one that varies', () => {
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

  test('of no size keeps nothing', () => {
    const { store, entry } = memory(0);
    store.set('key', entry(1), 1000);
    expect([store.get('key'), store.size()]).toEqual([undefined, { entries: 0, bytes: 0 }]);
  });
});
