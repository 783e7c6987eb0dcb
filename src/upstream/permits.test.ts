import { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import type { ClientDisconnect } from '../context.ts';
import { type AcquireResult, ConcurrencyLimit, Permit } from './permits.ts';

const STAYS: ClientDisconnect = { happened: false, onDisconnect: () => () => {} };
const leaving = () => {
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
  return { disconnect, leave: () => run() };
};
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('places', () => {
  test('are given in order, and a newcomer does not overtake those who wait', async () => {
    const places = new ConcurrencyLimit(1, new ManualClock());
    const first = places.tryAcquire() as Permit;
    const order: number[] = [];
    const waits = [1, 2, 3].map(async (n) => {
      const turn = await places.acquire(1_000, STAYS);
      order.push(n);
      return turn as Permit;
    });
    expect([places.tryAcquire(), places.waiting]).toEqual([null, 3]);
    first.free();
    // The place is the first one's already.
    expect(places.tryAcquire()).toBe(null);
    for (const wait of waits) (await wait).free();
    expect([order, places.inUse, places.waiting]).toEqual([[1, 2, 3], 0, 0]);
  });

  test('of one who leaves or loses patience in line go to the next, and no timer is left', async () => {
    const clock = new ManualClock();
    const places = new ConcurrencyLimit(1, clock);
    const taken = places.tryAcquire() as Permit;
    const caller = leaving();
    const [left, late, served] = [
      places.acquire(1_000, caller.disconnect),
      places.acquire(500, STAYS),
      places.acquire(1_000, STAYS),
    ];
    caller.leave();
    clock.advance(500);
    expect([await left, await late, places.waiting]).toEqual(['left', 'late', 1]);
    taken.free();
    expect(await served).toBeInstanceOf(Permit);
    expect([places.inUse, clock.pending]).toEqual([1, 0]);
  });

  test('send home who has no patience, who has left, who finds the line full, and all when they close', async () => {
    const places = new ConcurrencyLimit(1, new ManualClock());
    places.tryAcquire();
    expect(await places.acquire(0, STAYS)).toBe('late');
    expect(await places.acquire(1_000, { ...STAYS, happened: true })).toBe('left');
    const line = Array.from({ length: 1_000 }, () => places.acquire(1_000, STAYS));
    expect(await places.acquire(1_000, STAYS)).toBe('late');
    places.close();
    expect(new Set(await Promise.all(line))).toEqual(new Set(['closed']));
    expect([await places.acquire(1_000, STAYS), places.waiting]).toEqual(['closed', 0]);
  });

  test('that become more serve at once who waits; that become fewer cut nobody off', async () => {
    const places = new ConcurrencyLimit(1, new ManualClock());
    places.tryAcquire();
    const waits = [places.acquire(1_000, STAYS), places.acquire(1_000, STAYS)];
    places.resize(3);
    const turns = (await Promise.all(waits)) as Permit[];
    expect(places.inUse).toBe(3);
    places.resize(1);
    for (const turn of turns) turn.free();
    expect([places.inUse, places.tryAcquire()]).toEqual([1, null]);
  });

  test('are held until the last byte of a streamed answer, and freed once', async () => {
    const places = new ConcurrencyLimit(1, new ManualClock());
    const place = places.tryAcquire() as Permit;
    const body = new Readable({ read() {} });
    place.holdUntilClosed(body);
    place.releaseUnlessHeld();
    expect(places.inUse).toBe(1);
    body.destroy();
    await settled();
    place.free();
    expect(places.inUse).toBe(0);
  });

  test('are never more than there are, and none is lost, whatever happens', async () => {
    const step = fc.constantFrom('come', 'free', 'leave', 'time', 'fewer', 'more');
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 100 }), async (steps) => {
        const clock = new ManualClock();
        let most = 2;
        const places = new ConcurrencyLimit(most, clock);
        const held: Permit[] = [];
        const callers: { leave: () => void }[] = [];
        let resized = 0;
        const come = (): void => {
          const place = places.tryAcquire();
          const caller = leaving();
          if (place !== null) held.push(place);
          else {
            callers.push(caller);
            void places.acquire(100, caller.disconnect).then((turn: AcquireResult) => {
              if (turn instanceof Permit) held.push(turn);
            });
          }
        };
        for (const each of steps) {
          if (each === 'come') come();
          else if (each === 'free') held.shift()?.free();
          else if (each === 'leave') callers.shift()?.leave();
          else if (each === 'time') clock.advance(40);
          else {
            most = Math.max(1, most + (each === 'more' ? 1 : -1));
            resized = Math.max(resized, places.inUse);
            places.resize(most);
          }
          await settled();
          expect(held.length).toBe(places.inUse);
          expect(places.inUse).toBeLessThanOrEqual(Math.max(most, resized));
          if (places.waiting > 0) expect(places.inUse).toBeGreaterThanOrEqual(most);
        }
        clock.advance(100);
        await settled();
        while (held.length > 0) held.shift()?.free();
        expect([places.inUse, places.waiting, clock.pending]).toEqual([0, 0, 0]);
      }),
      { numRuns: 50 },
    );
  });
});
