import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CallName, callersOf, calls, costsConfig, countingUpstream, firstCall } from '../support/costs.ts';
import { type Folder, folder, patchgate, type Spawned } from '../support/process.ts';

/** Bytes for a request, in heap and buffers, Node's own included; a tenth above what was measured (runs differ by a fiftieth). */
const BYTES: Record<CallName, number> = {
  'a cached hit': 39_000,
  'a hit that the caller has already (304)': 38_000,
  'a miss, stored for all replicas': 97_000,
  'a GET that is passed on': 68_000,
  'a POST with a body': 76_000,
  'a tenant that has used up its quota': 52_000,
  'an unknown key': 34_000,
};
/** Compilation and the filling of caches are no cost of a request: these calls finish both. */
const WARM_UP = 3_000;
const CALLS = 1_000;
/** So much may be allocated before anything is collected. */
const YOUNG_MIB = 256;

let upstream: Awaited<ReturnType<typeof countingUpstream>>;
let files: Folder;
let gateway: Spawned;
let callers: ReturnType<typeof callersOf>;
beforeAll(async () => {
  upstream = await countingUpstream();
  files = await folder({ 'gateway.yaml': JSON.stringify(costsConfig(upstream.url)) });
  const young = ['min', 'max'].map((bound) => `--${bound}-semi-space-size=${YOUNG_MIB}`);
  const nodeArgs = [
    '--expose-gc',
    ...young,
    '--import',
    new URL('../support/counting-preload.mjs', import.meta.url).href,
  ];
  gateway = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path, nodeArgs });
  callers = callersOf((await gateway.listening()).traffic);
  await callers.call(1, 1, firstCall);
});
afterAll(async () => {
  callers[Symbol.dispose]();
  for (const each of [gateway, files, upstream]) await each[Symbol.asyncDispose]();
});

async function tell(word: 'begin' | 'end'): Promise<unknown> {
  const answer = once(gateway.child, 'message');
  gateway.child.send(word);
  const [told] = await answer;
  return told;
}

test.each(Object.entries(BYTES) as [CallName, number][])(
  '%s allocates no more than it did when this was written',
  async (name, most) => {
    await callers.call(WARM_UP, 1, calls[name]);
    await tell('begin');
    await callers.call(CALLS, 1, calls[name]);
    const told = (await tell('end')) as { heap: number; buffers: number; collections: number };
    expect(told.collections, 'what was allocated is known only if nothing is collected').toBe(0);
    const bytes = (told.heap + Math.max(0, told.buffers)) / CALLS;
    expect(bytes).toBeLessThan(most);
    // The counter counts: less than the request line and the log line together is no measurement.
    expect(bytes).toBeGreaterThan(1_000);
  },
  120_000,
);
