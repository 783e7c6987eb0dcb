// node --expose-gc test/bench/scale/memory-cache.mjs ENTRIES: the memory tier of the cache with so many responses of 1 KB.
import { PerformanceObserver } from 'node:perf_hooks';
import { inRoot, quantile } from '../page.mjs';

const { createMemoryCache } = /** @type {typeof import('../../../src/adapters/memory/cache.ts')} */ (
  await import(inRoot('dist/adapters/memory/cache.js'))
);
const { systemClock } = /** @type {typeof import('../../../src/clock.ts')} */ (await import(inRoot('dist/clock.js')));

const entries = Number(process.argv[2]);
const MB = 1024 * 1024;
const BODY = 1024;
const ASKED = 200_000;
const BATCH = 20;
/** @type {any} */
const meter = new Proxy({}, { get: () => () => {} });
const headers = ['Content-Type', 'application/json', 'ETag', '"0123456789abcdef"'];
const keyOf = (/** @type {number} */ i) => `main\nscope\ncore\n/api/v1/systems/${i}\n\napplication/json`;

/** Makes an entry as the cache stores a response: its body in memory of its own. @param {number} i */
function entryOf(i) {
  const body = Buffer.allocUnsafeSlow(BODY).fill(i);
  return {
    ...{
      kind: /** @type {const} */ ('response'),
      status: 200,
      headers: [...headers],
      body,
      generatedEtag: `"${i}"`,
      tags: [],
    },
    ...{ storedAt: systemClock.now(), receivedAt: systemClock.monotonic(), requestedAt: systemClock.monotonic() },
    ...{ initialAgeMs: 0, freshForMs: 1e9, validUpToWrite: 0 },
    stale: { staleWhileRevalidateMs: 0, staleIfErrorMs: 0, staleIfThrottledMs: 0 },
  };
}

function now() {
  globalThis.gc?.();
  const { heapUsed, external, rss } = process.memoryUsage();
  return { heapUsed, external, rss };
}

/** µs each, of batches: the clock takes as long as a look-up. @param {(i: number) => void} run */
function timed(run) {
  /** @type {number[]} */
  const us = [];
  for (let i = 0; i < ASKED; i += BATCH) {
    const from = performance.now();
    for (let j = i; j < i + BATCH; j++) run(j);
    us.push(((performance.now() - from) * 1000) / BATCH);
  }
  return us;
}

/** Measures the pauses of garbage collection beside a large live heap. */
async function pauses() {
  /** @type {number[]} */
  const ms = [];
  const observer = new PerformanceObserver((list) => ms.push(...list.getEntries().map(({ duration }) => duration)));
  observer.observe({ entryTypes: ['gc'] });
  /** @type {unknown[]} */
  let garbage = [];
  const until = performance.now() + 2_000;
  while (performance.now() < until) {
    for (let i = 0; i < 2_000; i++) garbage.push({ i, text: `garbage ${i}` });
    if (garbage.length > 50_000) garbage = [];
    await new Promise((resolve) => setImmediate(resolve));
  }
  const minor = ms.slice();
  ms.length = 0;
  globalThis.gc?.();
  await new Promise((resolve) => setTimeout(resolve, 50));
  observer.disconnect();
  return { minorP99: quantile(minor, 0.99), minorMost: Math.max(...minor), full: Math.max(...ms) };
}

/** @template T @param {readonly T[]} list @param {number} i */
const at = (list, i) => /** @type {T} */ (list[i]);

const before = now();
const cache = createMemoryCache({ maxBytes: 1e12, clock: systemClock, meter });
for (let i = 0; i < entries; i++) cache.set(keyOf(i), entryOf(i), 1e9);
const after = now();
const keys = Array.from({ length: ASKED }, () => keyOf(Math.floor(Math.random() * entries)));
const got = timed((i) => {
  if (cache.get(at(keys, i)) === undefined) throw new Error('not there');
});
const collected = await pauses();
// Full to the byte: each new one puts an old one out.
const full = createMemoryCache({ maxBytes: cache.size().bytes, clock: systemClock, meter });
const fresh = Array.from({ length: ASKED }, (_, i) => entryOf(i));
for (let i = 0; i < entries; i++) full.set(keyOf(i), at(fresh, i % ASKED), 1e9);
const put = timed((i) => full.set(keyOf(entries + i), at(fresh, i), 1e9));
process.stdout.write(
  JSON.stringify({
    entries,
    counted: cache.size().bytes / entries,
    heap: (after.heapUsed - before.heapUsed) / entries,
    external: (after.external - before.external) / entries,
    rss: (after.rss - before.rss) / entries,
    rssMb: after.rss / MB,
    get: { p50: quantile(got, 0.5), p99: quantile(got, 0.99) },
    evict: { p50: quantile(put, 0.5), p99: quantile(put, 0.99) },
    ...collected,
  }),
);
