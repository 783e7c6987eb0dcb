import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../test/support/manual-clock.ts';
import { BodyMemory, type HeldMemory, type TakeResult } from './body-memory.ts';
import type { ClientDisconnect } from './context.ts';

const STAYS: ClientDisconnect = { happened: false, onDisconnect: () => () => {} };
const patient = { maxWaitMs: 1_000, disconnect: STAYS };
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('memory for bodies', () => {
  test('goes to a tenant as long as as much is free for others: half of it to one alone, and never the last of it', async () => {
    const memory = new BodyMemory(100, new ManualClock());
    const greedy = Array.from({ length: 10 }, () => memory.open('greedy'));
    const taken = greedy.filter((held) => held.tryTake(10));
    expect([taken.length, memory.bytes]).toEqual([5, 50]);
    const others = ['a', 'b', 'c'].map((tenant) => memory.open(tenant));
    expect(others.map((held) => held.tryTake(10))).toEqual([true, true, true]);
    expect(memory.open('a').tryTake(10)).toBe(false);
    for (const held of [...greedy, ...others]) held.release();
    expect(memory.bytes).toBe(0);
  });

  test('is waited for in order, and a small body does not overtake a large one of its tenant', async () => {
    const memory = new BodyMemory(100, new ManualClock());
    const first = memory.open('one');
    expect(first.tryTake(40)).toBe(true);
    const large = memory.open('one');
    const small = memory.open('one');
    const results: string[] = [];
    const waits = [
      large.take(30, patient).then((result) => results.push(`large ${result}`)),
      small.take(5, patient).then((result) => results.push(`small ${result}`)),
    ];
    await settled();
    expect([results, memory.waiting]).toEqual([[], 2]);
    // Another tenant does not wait behind them.
    expect(memory.open('two').tryTake(5)).toBe(true);
    first.release();
    await Promise.all(waits);
    expect(results).toEqual(['large taken', 'small taken']);
  });

  test('goes to a body that has begun before one that has not', async () => {
    const memory = new BodyMemory(100, new ManualClock());
    const [begun, other] = [memory.open('one'), memory.open('one')];
    begun.tryTake(30);
    other.tryTake(20);
    const results: string[] = [];
    void memory
      .open('one')
      .take(10, patient)
      .then(() => results.push('new'));
    void begun.take(20, patient).then(() => results.push('begun'));
    other.release();
    await settled();
    expect([results, memory.bytes]).toEqual([['begun'], 50]);
  });

  test('is not waited for without time, after a disconnect, above half of all, or once it is closed, and leaves no timer', async () => {
    const clock = new ManualClock();
    const memory = new BodyMemory(100, clock);
    memory.open('one').tryTake(50);
    expect(await memory.open('one').take(1, { ...patient, maxWaitMs: 0 })).toBe('full');
    expect(await memory.open('one').take(1, { ...patient, disconnect: { ...STAYS, happened: true } })).toBe(
      'disconnected',
    );
    expect(await memory.open('two').take(51, patient)).toBe('full');
    const late = memory.open('one').take(1, patient);
    clock.advance(1_000);
    expect(await late).toBe('full');
    const waiting = memory.open('one').take(1, patient);
    memory.close();
    expect([await waiting, await memory.open('one').take(1, patient)]).toEqual(['closed', 'closed']);
    expect([memory.waiting, clock.pending]).toEqual([0, 0]);
  });

  test('of a body that was given up while it waited goes back', async () => {
    const memory = new BodyMemory(100, new ManualClock());
    const [first, second] = [memory.open('one'), memory.open('one')];
    first.tryTake(50);
    const waiting = second.take(10, patient);
    second.release();
    first.release();
    expect(await waiting).toBe('taken');
    expect(memory.bytes).toBe(0);
  });

  test('is never exceeded, and none is lost, in any order of events', async () => {
    const step = fc.record({
      what: fc.constantFrom('take', 'grow', 'shrink', 'release', 'time', 'resize'),
      tenant: fc.constantFrom('a', 'b', 'c'),
      bytes: fc.integer({ min: 1, max: 60 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
        const clock = new ManualClock();
        const memory = new BodyMemory(100, clock);
        const bodies: HeldMemory[] = [];
        const results: TakeResult[] = [];
        let most = 100;
        for (const { what, tenant, bytes } of steps) {
          const held = bodies[bytes % Math.max(1, bodies.length)];
          if (what === 'take') {
            const body = memory.open(tenant);
            bodies.push(body);
            void body.take(bytes, { maxWaitMs: 100, disconnect: STAYS }).then((result) => results.push(result));
          } else if (what === 'grow') held?.tryTake(bytes);
          else if (what === 'shrink') held?.shrinkTo(bytes);
          else if (what === 'release') held?.release();
          else if (what === 'time') clock.advance(40);
          else {
            most = Math.max(memory.bytes, 50 + bytes);
            memory.resize(50 + bytes);
          }
          await settled();
          expect(memory.bytes).toBe(bodies.reduce((sum, body) => sum + body.bytes, 0));
          expect(memory.bytes).toBeLessThanOrEqual(most);
        }
        clock.advance(100);
        await settled();
        for (const body of bodies) body.release();
        expect([memory.bytes, memory.waiting, clock.pending]).toEqual([0, 0, 0]);
      }),
      { numRuns: 100 },
    );
  });
});
