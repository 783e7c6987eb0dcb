import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createMemoryQuotaStore } from '../adapters/memory/quota-store.ts';
import type { Log, Meter } from '../ports.ts';
import { DisconnectSource } from '../server/request-context.ts';
import type { TenantStatus } from './admission.ts';
import { createAdmissionQueue } from './admission-queue.ts';
import type { TenantQuota } from './quota-store.ts';
import { preferredWaitMs } from './rate-limit.ts';

const quiet = new Proxy({}, { get: () => () => {} });
const ROOMY: TenantQuota = { rate: 1e6, burst: 1e5, weight: 1, reserved: 0, maxWaitMs: 0 };

/** Until all decisions are there. */
const decided = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

/** An account that gives one slot a second, and no more than one at once. */
function queueOf(tenants: Record<string, TenantQuota> = { a: ROOMY, b: ROOMY }) {
  const clock = new ManualClock();
  const quota = { limit: 1000, ceiling: 60, burst: 1 };
  const plan = { accounts: new Map([['main', quota]]), tenants: new Map([['main', new Map(Object.entries(tenants))]]) };
  const store = createMemoryQuotaStore({ clock, plan, meter: quiet as Meter, log: quiet as Log });
  const statuses = new Map<string, TenantStatus>();
  const tenantStatus = (tenant: string) => statuses.get(tenant) ?? 'active';
  const queue = createAdmissionQueue({ quotaStore: store, clock, tenantStatus });
  const log: string[] = [];
  const enter = (name: string, tenant = 'a', maxWaitMs = 10_000) => {
    const caller = new DisconnectSource();
    void queue.enter({ account: 'main', tenant, maxWaitMs, disconnect: caller }).then((admission) => {
      const isTimeout = admission.kind === 'rejected' && admission.timedOut;
      log.push(`${name} ${isTimeout ? 'timed out' : admission.kind === 'rejected' ? admission.by : admission.kind}`);
    });
    return caller;
  };
  const pass = async (ms: number) => {
    await decided();
    for (let at = 0; at < ms; at += 100) {
      clock.advance(100);
      await decided();
    }
  };
  return { clock, store, queue, enter, pass, log, statuses, waiting: () => queue.waiting('main') };
}

describe('the admission queue', () => {
  test('admits at once a request that finds a slot', async () => {
    const { enter, log, waiting } = queueOf();
    enter('first');
    await decided();
    expect([log, waiting()]).toEqual([['first admitted'], 0]);
  });

  test('serves a tenant in the order of arrival, each request as soon as there is a slot', async () => {
    const { enter, pass, log, waiting } = queueOf();
    for (const name of ['1', '2', '3', '4']) enter(name);
    await decided();
    expect(waiting()).toBe(3);
    await pass(1_000);
    expect(log).toEqual(['1 admitted', '2 admitted']);
    await pass(2_000);
    expect(log).toEqual(['1 admitted', '2 admitted', '3 admitted', '4 admitted']);
    expect(waiting()).toBe(0);
  });

  test('serves tenants by turns: many requests of one do not keep the other out', async () => {
    const { enter, pass, log } = queueOf();
    for (let i = 0; i < 5; i++) enter(`a${i}`, 'a');
    enter('b0', 'b');
    enter('b1', 'b');
    await pass(4_000);
    // The other tenant has had nothing yet: it is first.
    expect(log.slice(1)).toEqual(['b0 admitted', 'a1 admitted', 'b1 admitted', 'a2 admitted']);
  });

  test('lets no request past those of the same tenant, and no tenant past one that is next', async () => {
    const { clock, enter, pass, log } = queueOf();
    for (const name of ['a1', 'a2', 'a3']) enter(name, 'a');
    enter('b1', 'b');
    await pass(1_000);
    enter('b2', 'b');
    await decided();
    clock.advance(999);
    enter('a4', 'a', 0);
    enter('b3', 'b', 0);
    await decided();
    clock.advance(1);
    await decided();
    expect(log).toEqual(['a1 admitted', 'b1 admitted', 'a4 account', 'b3 account', 'a2 admitted']);
  });

  test('does not keep a tenant back because another waits for its own bucket', async () => {
    const { clock, enter, log } = queueOf({ a: { ...ROOMY, rate: 1, burst: 1 }, b: ROOMY });
    enter('a1', 'a', 60_000);
    await decided();
    clock.advance(1_000);
    enter('a2', 'a', 60_000);
    enter('b1', 'b');
    await decided();
    expect(log).toEqual(['a1 admitted', 'b1 admitted']);
  });

  test('rejects at once a request whose time ends before its slot comes', async () => {
    const { enter, log, waiting } = queueOf();
    enter('1');
    enter('2', 'a', 500);
    await decided();
    expect([log, waiting()]).toEqual([['1 admitted', '2 account'], 0]);
  });

  test('rejects a waiter when its time is over, with a code of its own', async () => {
    const { enter, pass, log, waiting } = queueOf();
    for (const name of ['1', '2', '3', '4']) enter(name, 'a', 1_500);
    await pass(1_500);
    expect(log).toEqual(['1 admitted', '2 admitted', '3 timed out', '4 timed out']);
    expect(waiting()).toBe(0);
  });

  test('keeps no trace of a caller that disconnects: its place is free, and it has spent nothing', async () => {
    const { enter, pass, log, store, waiting } = queueOf();
    enter('1');
    const leaving = enter('2');
    enter('3');
    await decided();
    leaving.leave();
    expect(waiting()).toBe(1);
    await pass(1_000);
    expect(log).toEqual(['1 admitted', '2 disconnected', '3 admitted']);
    expect(store.view('main').slotsInUse).toBe(2);
  });

  test('ends the wait of a caller that disconnected while the store decided', async () => {
    const { clock, enter, pass, log, waiting } = queueOf();
    enter('1');
    enter('2').leave();
    await decided();
    expect([log, waiting(), clock.pending]).toEqual([['1 admitted', '2 disconnected'], 0, 0]);
    await pass(20_000);
    expect(log).toEqual(['1 admitted', '2 disconnected']);
  });

  test('closes for all waiters, and for all later requests', async () => {
    const { clock, enter, queue, log } = queueOf();
    for (const name of ['1', '2', '3']) enter(name);
    await decided();
    queue.close();
    enter('4');
    await decided();
    expect([...log].sort()).toEqual(['1 admitted', '2 closed', '3 closed', '4 closed']);
    expect(clock.pending).toBe(0);
  });

  test('gives back the slot of a request that was admitted while the queue closed', async () => {
    const { enter, queue, log, store } = queueOf();
    enter('1');
    queue.close();
    await decided();
    expect([log, store.view('main').slotsInUse]).toEqual([['1 closed'], 0]);
  });

  test('dismisses the requests of a tenant that may not call any more, later ones too, and no others', async () => {
    const { enter, queue, pass, log, statuses, store, waiting } = queueOf();
    for (const name of ['1', '2', '3']) enter(name);
    enter('other', 'b');
    await decided();
    statuses.set('a', 'removed');
    queue.dismiss();
    enter('4');
    await pass(3_000);
    expect([...log].sort()).toEqual(['1 admitted', '2 dismissed', '3 dismissed', '4 dismissed', 'other admitted']);
    expect([waiting(), store.view('main').slotsInUse]).toEqual([0, 2]);
  });

  test('is bounded', async () => {
    const { enter, log, waiting } = queueOf();
    for (let i = 0; i < 1_200; i++) enter(String(i), 'a', 30_000);
    await decided();
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
