// The tier of the cache that replicas share: the memory that so many responses take in Redis, and the time to find one.
import { Redis } from 'ioredis';
import { end, freePort, startRedis } from '../../chaos/rig.mjs';
import { inRoot, quantile } from '../page.mjs';

const { encode, getResponse, nameOf } =
  /** @type {typeof import('../../../src/adapters/redis/cache/response-store.ts')} */ (
    await import(inRoot('dist/adapters/redis/cache/response-store.js'))
  );
const { runScript } = /** @type {typeof import('../../../src/adapters/redis/client/scripts.ts')} */ (
  await import(inRoot('dist/adapters/redis/client/scripts.js'))
);

const PIPELINE = 2_000;
const ASKED = 1_500;
/** Below what is compressed, so that the size is known. */
const BODY = Buffer.alloc(1_000, 'x');
const keyOf = (/** @type {number} */ i) => `main\nscope\ncore\n/api/v1/systems/${i}\n\napplication/json`;

/** @param {number} i */
const headOf = (i) => ({
  key: keyOf(i),
  entry: {
    ...{
      kind: /** @type {const} */ ('response'),
      status: 200,
      headers: ['Content-Type', 'application/json'],
      tags: [],
    },
    ...{ generatedEtag: '"0123456789abcdef"', storedAt: 1_790_000_000_000, initialAgeMs: 0, freshForMs: 60_000 },
    ...{ tookMs: 120, heldMs: 0 },
    stale: { staleWhileRevalidateMs: 0, staleIfErrorMs: 3_600_000, staleIfThrottledMs: 600_000 },
  },
  keepMs: 3_660_000,
  position: { log: 'f3b0c442-98fc-4c14-9afb-f4c8996fb924', at: 12 },
});

/** @param {readonly number[]} sizes from few to many */
export async function sharedCache(sizes) {
  const port = await freePort();
  const server = await startRedis(port);
  const client = new Redis({ port });
  const used = async () => Number(/used_memory:(\d+)/.exec(await client.info('memory'))?.[1] ?? 0);
  const empty = await used();
  const rows = [];
  let stored = 0;
  let bytes = 0;
  for (const size of sizes) {
    while (stored < size) {
      const pipeline = client.pipeline();
      for (const last = Math.min(size, stored + PIPELINE); stored < last; stored++) {
        const whole = await encode(headOf(stored), BODY);
        bytes = whole.length;
        pipeline.set(nameOf('bench', keyOf(stored)), whole, 'PX', 3_660_000);
      }
      await pipeline.exec();
    }
    /** @type {number[]} */
    const ms = [];
    for (let i = 0; i < ASKED; i++) {
      const name = nameOf('bench', keyOf(Math.floor(Math.random() * size)));
      const from = performance.now();
      const [found] = /** @type {unknown[]} */ (await runScript(client, getResponse, [name]));
      ms.push(performance.now() - from);
      if (found === null) throw new Error('not there');
    }
    const memory = await used();
    rows.push({
      size,
      bytes,
      memory,
      perEntry: (memory - empty) / size,
      p50: quantile(ms, 0.5),
      p99: quantile(ms, 0.99),
    });
  }
  client.disconnect();
  await end(server);
  return rows;
}
