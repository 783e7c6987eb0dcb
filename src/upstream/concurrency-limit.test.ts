import { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import type { ClientDisconnect } from '../context.ts';
import { type AcquireResult, ConcurrencyLimit, Permit, type PermitHolder } from './concurrency-limit.ts';

const STAYS: ClientDisconnect = { happened: false, onDisconnect: () => () => {} };
const client = () => {
  let run = (): void => {};
  const disconnect: ClientDisconnect = {
    happened: false,
    onDisconnect: (then) => {
      run = then;
      return () => {
        run = () => {};
      };
    },
  };
  return { disconnect, close: () => run() };
};
/** A tenant that may hold all permits. */
const ONE: PermitHolder = { id: 'one', maxInFlight: 1_000 };
const of = (id: string): PermitHolder => ({ id, maxInFlight: null });
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('permits', () => {
  test('are granted in order, and a new request does not overtake waiters', async () => {
    const limit = new ConcurrencyLimit(1, new ManualClock());
    const first = limit.tryAcquire(ONE) as Permit;
    const order: number[] = [];
    const waits = [1, 2, 3].map(async (n) => {
      const permit = await limit.acquire(ONE, 1_000, STAYS);
      order.push(n);
      return permit as Permit;
    });
    expect([limit.tryAcquire(ONE), limit.waiting]).toEqual([null, 3]);
    first.release();
    // The first waiter has the permit already.
    expect(limit.tryAcquire(ONE)).toBe(null);
    for (const wait of waits) (await wait).release();
    expect([order, limit.inFlight, limit.waiting]).toEqual([[1, 2, 3], 0, 0]);
  });

  test('pass over a waiter that disconnected or timed out, and leave no timer', async () => {
    const clock = new ManualClock();
    const limit = new ConcurrencyLimit(1, clock);
    const first = limit.tryAcquire(ONE) as Permit;
    const connected = client();
    const [disconnected, late, served] = [
      limit.acquire(ONE, 1_000, connected.disconnect),
      limit.acquire(ONE, 500, STAYS),
      limit.acquire(ONE, 1_000, STAYS),
    ];
    connected.close();
    clock.advance(500);
    expect([await disconnected, await late, limit.waiting]).toEqual(['disconnected', 'timeout', 1]);
    first.release();
    expect(await served).toBeInstanceOf(Permit);
    expect([limit.inFlight, clock.pending]).toEqual([1, 0]);
  });

  test('are not waited for without time, after a disconnect, with a full queue, or once the limit is closed', async () => {
    const limit = new ConcurrencyLimit(1, new ManualClock());
    limit.tryAcquire(ONE);
    expect(await limit.acquire(ONE, 0, STAYS)).toBe('timeout');
    expect(await limit.acquire(ONE, 1_000, { ...STAYS, happened: true })).toBe('disconnected');
    const queue = Array.from({ length: 500 }, () => limit.acquire(ONE, 1_000, STAYS));
    expect(await limit.acquire(ONE, 1_000, STAYS)).toBe('timeout');
    // A tenant waits in as many places as are free for others.
    queue.push(...Array.from({ length: 250 }, () => limit.acquire(of('two'), 1_000, STAYS)));
    expect(await limit.acquire(of('two'), 1_000, STAYS)).toBe('timeout');
    queue.push(limit.acquire(of('three'), 1_000, STAYS));
    limit.close();
    expect(new Set(await Promise.all(queue))).toEqual(new Set(['closed']));
    expect([await limit.acquire(ONE, 1_000, STAYS), limit.waiting]).toEqual(['closed', 0]);
  });

  test('leave half of all to other tenants, and pass over the waiters of a tenant that holds its own', async () => {
    const limit = new ConcurrencyLimit(4, new ManualClock());
    const [first] = [limit.tryAcquire(of('greedy')), limit.tryAcquire(of('greedy'))] as [Permit, Permit];
    expect(limit.tryAcquire(of('greedy'))).toBe(null);
    const waits = limit.acquire(of('greedy'), 1_000, STAYS);
    // A request of another tenant does not wait behind it.
    expect(limit.tryAcquire(of('modest'))).toBeInstanceOf(Permit);
    expect([limit.inFlight, limit.waiting]).toEqual([3, 1]);
    first.release();
    expect(await waits).toBeInstanceOf(Permit);
    expect([limit.inFlight, limit.waiting]).toEqual([3, 0]);
    const alone = new ConcurrencyLimit(1, new ManualClock());
    expect(alone.tryAcquire(of('greedy'))).toBeInstanceOf(Permit);
  });

  test('of a raised limit go to waiters at once; a lowered limit aborts no request', async () => {
    const limit = new ConcurrencyLimit(1, new ManualClock());
    limit.tryAcquire(ONE);
    const waits = [limit.acquire(ONE, 1_000, STAYS), limit.acquire(ONE, 1_000, STAYS)];
    limit.resize(3);
    const permits = (await Promise.all(waits)) as Permit[];
    expect(limit.inFlight).toBe(3);
    limit.resize(1);
    for (const permit of permits) permit.release();
    expect([limit.inFlight, limit.tryAcquire(ONE)]).toEqual([1, null]);
  });

  test('are held until the last byte of a streamed body, and released once', async () => {
    const limit = new ConcurrencyLimit(1, new ManualClock());
    const permit = limit.tryAcquire(ONE) as Permit;
    const body = new Readable({ read() {} });
    permit.holdUntilClosed(body);
    permit.releaseUnlessHeld();
    expect(limit.inFlight).toBe(1);
    body.destroy();
    await settled();
    permit.release();
    expect(limit.inFlight).toBe(0);
  });

  test('never exceed the limit, and none is lost, in any order of events', async () => {
    const step = fc.constantFrom('arrive', 'release', 'disconnect', 'time', 'fewer', 'more');
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 100 }), async (steps) => {
        const clock = new ManualClock();
        let maxInFlight = 2;
        const limit = new ConcurrencyLimit(maxInFlight, clock);
        const held: Permit[] = [];
        const clients: { close: () => void }[] = [];
        let resized = 0;
        let turn = 0;
        const arrive = (): void => {
          turn += 1;
          // The second tenant holds half of the permits at most.
          const holder = turn % 2 === 0 ? of('half') : ONE;
          const permit = limit.tryAcquire(holder);
          const connected = client();
          if (permit !== null) held.push(permit);
          else {
            clients.push(connected);
            void limit.acquire(holder, 100, connected.disconnect).then((result: AcquireResult) => {
              if (result instanceof Permit) held.push(result);
            });
          }
        };
        for (const each of steps) {
          if (each === 'arrive') arrive();
          else if (each === 'release') held.shift()?.release();
          else if (each === 'disconnect') clients.shift()?.close();
          else if (each === 'time') clock.advance(40);
          else {
            maxInFlight = Math.max(1, maxInFlight + (each === 'more' ? 1 : -1));
            resized = Math.max(resized, limit.inFlight);
            limit.resize(maxInFlight);
          }
          await settled();
          expect(held.length).toBe(limit.inFlight);
          expect(limit.inFlight).toBeLessThanOrEqual(Math.max(maxInFlight, resized));
          const half = Math.max(1, Math.floor(maxInFlight / 2));
          if (limit.waiting > 0) expect(limit.inFlight).toBeGreaterThanOrEqual(Math.min(half, maxInFlight));
        }
        clock.advance(100);
        await settled();
        while (held.length > 0) held.shift()?.release();
        expect([limit.inFlight, limit.waiting, clock.pending]).toEqual([0, 0, 0]);
      }),
      { numRuns: 50 },
    );
  });
});
