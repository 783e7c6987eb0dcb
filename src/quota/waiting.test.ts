import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createMemoryLedger } from '../adapters/memory/ledger.ts';
import type { Log, Meter } from '../ports.ts';
import { DisconnectSource } from '../server/request-context.ts';
import type { Ledger, TenantQuota } from './ledger.ts';
import { preferredWaitMs } from './prefer.ts';
import { createWaitingRoom, type Standing, type Visit } from './waiting.ts';

const quiet = new Proxy({}, { get: () => () => {} });
const ROOMY: TenantQuota = { rate: 1e6, burst: 1e5, weight: 1, reserved: 0, maxWaitMs: 0 };
const settled = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

/** An account that gives one slot a second, and no more than one at once. */
function waitingRoom(
  tenants: Record<string, TenantQuota> = { a: ROOMY, b: ROOMY },
  decides: 'at once' | 'later' = 'at once',
) {
  const clock = new ManualClock();
  const quota = { limit: 1000, ceiling: 60, burst: 1 };
  const plan = { accounts: new Map([['main', quota]]), tenants: new Map([['main', new Map(Object.entries(tenants))]]) };
  const memory = createMemoryLedger({ clock, plan, meter: quiet as Meter, log: quiet as Log });
  const later: Ledger = { ...memory, admit: async (ask) => memory.admit(ask) };
  const ledger = decides === 'later' ? later : memory;
  const standings = new Map<string, Standing>();
  const room = createWaitingRoom({ ledger, clock, standing: (tenant) => standings.get(tenant) ?? 'welcome' });
  const log: string[] = [];
  const enter = (name: string, tenant = 'a', maxWaitMs = 10_000) => {
    const caller = new DisconnectSource();
    const note = (visit: Visit) => {
      log.push(
        visit.kind === 'refused'
          ? `${name} ${visit.timedOut ? 'timed out' : visit.decision.by}`
          : `${name} ${visit.kind}`,
      );
      return visit;
    };
    const visit = room.enter({ account: 'main', tenant, maxWaitMs, disconnect: caller });
    return { caller, visit: visit instanceof Promise ? visit.then(note) : note(visit) };
  };
  const pass = async (ms: number) => {
    for (let at = 0; at < ms; at += 100) {
      clock.advance(100);
      await settled();
    }
  };
  return { clock, ledger, room, enter, pass, log, standings, waiting: () => room.waiting('main') };
}

describe('the waiting room', () => {
  test('lets in at once whoever finds a slot', () => {
    const { enter, log, waiting } = waitingRoom();
    enter('first');
    expect([log, waiting()]).toEqual([['first admitted'], 0]);
  });

  test('serves a tenant in the order of arrival, each as soon as there is a slot', async () => {
    const { enter, pass, log, waiting } = waitingRoom();
    for (const name of ['1', '2', '3', '4']) enter(name);
    expect(waiting()).toBe(3);
    await pass(1_000);
    expect(log).toEqual(['1 admitted', '2 admitted']);
    await pass(2_000);
    expect(log).toEqual(['1 admitted', '2 admitted', '3 admitted', '4 admitted']);
    expect(waiting()).toBe(0);
  });

  test('serves tenants in turn: a crowd of one does not keep the other out', async () => {
    const { enter, pass, log } = waitingRoom();
    for (let i = 0; i < 5; i++) enter(`a${i}`, 'a');
    enter('b0', 'b');
    enter('b1', 'b');
    await pass(4_000);
    // The other one has had nothing yet: it is first.
    expect(log.slice(1)).toEqual(['b0 admitted', 'a1 admitted', 'b1 admitted', 'a2 admitted']);
  });

  test('lets nobody past those of the same tenant, and no tenant past one whose turn it is', async () => {
    const { clock, enter, pass, log } = waitingRoom();
    for (const name of ['a1', 'a2', 'a3']) enter(name, 'a');
    enter('b1', 'b');
    await pass(1_000);
    enter('b2', 'b');
    clock.advance(999);
    enter('a4', 'a', 0);
    enter('b3', 'b', 0);
    clock.advance(1);
    await settled();
    expect(log).toEqual(['a1 admitted', 'b1 admitted', 'a4 account', 'b3 account', 'a2 admitted']);
  });

  test('does not keep a tenant back because another waits for its own bucket', () => {
    const { clock, enter, log } = waitingRoom({ a: { ...ROOMY, rate: 1, burst: 1 }, b: ROOMY });
    enter('a1', 'a', 60_000);
    clock.advance(1_000);
    enter('a2', 'a', 60_000);
    enter('b1', 'b');
    expect(log).toEqual(['a1 admitted', 'b1 admitted']);
  });

  test('refuses at once whoever would not live to be served', () => {
    const { enter, log, waiting } = waitingRoom();
    enter('1');
    enter('2', 'a', 500);
    expect([log, waiting()]).toEqual([['1 admitted', '2 account'], 0]);
  });

  test('refuses when the wait is over, and says so', async () => {
    const { enter, pass, log, waiting } = waitingRoom();
    for (const name of ['1', '2', '3', '4']) enter(name, 'a', 1_500);
    await pass(1_500);
    expect(log).toEqual(['1 admitted', '2 admitted', '3 timed out', '4 timed out']);
    expect(waiting()).toBe(0);
  });

  test('is left without a trace: the place is free, and nothing is spent', async () => {
    const { enter, pass, log, ledger, waiting } = waitingRoom();
    enter('1');
    const leaving = enter('2');
    enter('3');
    leaving.caller.leave();
    expect(waiting()).toBe(1);
    await pass(1_000);
    expect(log).toEqual(['1 admitted', '2 left', '3 admitted']);
    expect(ledger.view('main').slotsInUse).toBe(2);
  });

  test('is left by a caller who was gone before it was told to wait, and nothing comes after', async () => {
    const { clock, enter, pass, log, waiting } = waitingRoom(undefined, 'later');
    enter('1');
    await settled();
    const leaving = enter('2');
    leaving.caller.leave();
    await settled();
    expect([log, waiting(), clock.pending]).toEqual([['1 admitted', '2 left'], 0, 0]);
    await pass(20_000);
    expect(log).toEqual(['1 admitted', '2 left']);
  });

  test('closes with everybody told, and nobody let in after', async () => {
    const { clock, enter, room, log } = waitingRoom();
    for (const name of ['1', '2', '3']) enter(name);
    room.close();
    enter('4');
    await settled();
    expect(log).toEqual(['1 admitted', '4 closed', '2 closed', '3 closed']);
    expect(clock.pending).toBe(0);
  });

  test('sends those home whose tenant may not call any more, who come later too, and nobody else', async () => {
    const { enter, room, pass, log, standings, ledger, waiting } = waitingRoom();
    for (const name of ['1', '2', '3']) enter(name);
    enter('other', 'b');
    standings.set('a', 'removed');
    room.dismiss();
    enter('4');
    await pass(3_000);
    expect(log).toEqual(['1 admitted', '4 dismissed', '2 dismissed', '3 dismissed', 'other admitted']);
    expect([waiting(), ledger.view('main').slotsInUse]).toEqual([0, 2]);
  });

  test('is bounded', () => {
    const { enter, log, waiting } = waitingRoom();
    for (let i = 0; i < 1_200; i++) enter(String(i), 'a', 30_000);
    expect(waiting()).toBe(1_000);
    expect(log.filter((line) => line.endsWith('account'))).toHaveLength(199);
  });
});

describe('Prefer: wait', () => {
  test.each([
    ['wait=10', 10_000],
    ['respond-async, wait=2', 2_000],
    ['WAIT = "3"; x=y', 3_000],
    ['wait=0', 0],
    ['wait=999', 30_000],
  ])('%s', (field, ms) => expect(preferredWaitMs(field)).toBe(ms));

  test.each(['wait', 'wait=', 'wait=-1', 'wait=soon', 'wait=1.5', 'waits=3', ''])('%j is no preference', (field) => {
    expect(preferredWaitMs(field)).toBeNull();
  });
});
