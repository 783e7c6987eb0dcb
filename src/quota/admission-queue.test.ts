import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createMemoryQuotaStore } from '../adapters/memory/quota-store.ts';
import { DisconnectSignal } from '../context.ts';
import type { Log, Meter } from '../ports.ts';
import { createAdmissionQueue } from './admission-queue.ts';
import type { Budget } from './budgets.ts';
import type { TenantQuota, TenantStatus } from './quota-store.ts';
import { preferredWaitMs } from './rate-limit.ts';

const quiet = new Proxy({}, { get: () => () => {} });
const ROOMY: TenantQuota = { rate: 1e6, burst: 1e5, weight: 1, reserved: 0, maxWaitMs: 0 };

/** Until all decisions are there. */
const decided = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

/** The account below gives a slot each tenth of a second; a little later, as it has given some at once. */
const SLOT_MS = 102;

/** An account that gives one slot in {@link SLOT_MS}, and has one now and no more. */
async function queueOf(
  tenants: Record<string, TenantQuota> = { a: ROOMY, b: ROOMY },
  budgets: ReadonlyMap<string, Budget> = new Map(),
) {
  const clock = new ManualClock();
  const quota = { limit: 1000, ceiling: 600, burst: 1, budgets };
  const all = new Map(Object.entries({ ...tenants, first: ROOMY }));
  const plan = { accounts: new Map([['main', quota]]), tenants: new Map([['main', all]]) };
  const store = createMemoryQuotaStore({ clock, plan, meter: quiet as Meter, log: quiet as Log });
  const first = { account: 'main', tenant: 'first', maxWaitMs: 0 };
  // New state sends one request, and awaits its response; and what an idle account sends at once is used up.
  for (let waitMs = 0; waitMs < SLOT_MS / 2; ) {
    clock.advance(waitMs);
    const used = await store.admit(first);
    waitMs = used.kind === 'admitted' ? 0 : used.retryAfterMs;
    if (used.kind === 'admitted') used.slot.complete({ limit: null, remaining: null, throttled: null });
  }
  const before = store.view('main').slotsInUse;
  clock.advance(SLOT_MS);
  const queue = createAdmissionQueue({ quotaStore: store, clock });
  const log: string[] = [];
  const enter = (name: string, tenant = 'a', maxWaitMs = 10_000, counted: readonly string[] = []) => {
    const caller = new DisconnectSignal();
    void queue.enter({ account: 'main', tenant, maxWaitMs, disconnect: caller, budgets: counted }).then((admission) => {
      const isTimeout = admission.kind === 'rejected' && admission.timedOut;
      log.push(`${name} ${isTimeout ? 'timed out' : admission.kind === 'rejected' ? admission.by : admission.kind}`);
    });
    return caller;
  };
  const pass = async (ms: number) => {
    await decided();
    for (let at = 0; at < ms; at += 1) {
      clock.advance(1);
      await decided();
    }
  };
  const waiting = () => queue.waiting('main');
  const slotsInUse = () => store.view('main').slotsInUse - before;
  return { clock, store, slotsInUse, queue, enter, pass, log, waiting };
}

describe('the admission queue', () => {
  test('admits at once a request that finds a slot', async () => {
    const { enter, log, waiting } = await queueOf();
    enter('first');
    await decided();
    expect([log, waiting()]).toEqual([['first admitted'], 0]);
  });

  test('refuses all that wait for a budget at once when its last request is admitted', async () => {
    const starts: Budget = { match: [], limit: 2, per: 'month', timeZone: 'UTC', warnAtPercent: 80 };
    const { enter, pass, log, waiting, slotsInUse } = await queueOf(undefined, new Map([['starts', starts]]));
    for (const name of ['1', '2', '3', '4', '5']) enter(name, 'a', 10_000, ['starts']);
    enter('read');
    await pass(SLOT_MS);
    // The third asks as the second is admitted, and each behind it in its turn; the read is next.
    expect(log).toEqual(['1 admitted', '2 admitted', '3 budget', '4 budget', '5 budget']);
    expect([waiting(), slotsInUse()]).toEqual([1, 2]);
    await pass(SLOT_MS);
    expect(log.at(-1)).toBe('read admitted');
  });

  test('gives the slot of a caller that left on only to a request that counts against the same budgets', async () => {
    const starts: Budget = { match: [], limit: 2, per: 'month', timeZone: 'UTC', warnAtPercent: 80 };
    const { enter, pass, log, store } = await queueOf(undefined, new Map([['starts', starts]]));
    enter('first');
    await decided();
    const left = enter('start', 'a', 10_000, ['starts']);
    enter('read');
    // It leaves while the store decides.
    const admit = store.admit;
    store.admit = async (request) => {
      const decision = await admit(request);
      if (request.budgets?.includes('starts') === true && decision.kind === 'admitted') left.leave();
      return decision;
    };
    await pass(3 * SLOT_MS);
    expect(log).toEqual(['first admitted', 'start disconnected', 'read admitted']);
    expect(store.view('main').budgets).toMatchObject([{ used: 0 }]);
  });

  test('serves a tenant in the order of arrival, each request as soon as there is a slot', async () => {
    const { enter, pass, log, waiting } = await queueOf();
    for (const name of ['1', '2', '3', '4']) enter(name);
    await decided();
    expect(waiting()).toBe(3);
    await pass(SLOT_MS);
    expect(log).toEqual(['1 admitted', '2 admitted']);
    await pass(2 * SLOT_MS);
    expect(log).toEqual(['1 admitted', '2 admitted', '3 admitted', '4 admitted']);
    expect(waiting()).toBe(0);
  });

  test('serves tenants by turns: many requests of one do not keep the other out', async () => {
    const { enter, pass, log } = await queueOf();
    for (let i = 0; i < 5; i++) enter(`a${i}`, 'a');
    enter('b0', 'b');
    enter('b1', 'b');
    await pass(4 * SLOT_MS);
    // The other tenant has had nothing yet: it is first.
    expect(log.slice(1)).toEqual(['b0 admitted', 'a1 admitted', 'b1 admitted', 'a2 admitted']);
  });

  test('lets no request past those of the same tenant, and no tenant past one that is next', async () => {
    const { clock, enter, pass, log } = await queueOf();
    for (const name of ['a1', 'a2', 'a3']) enter(name, 'a');
    enter('b1', 'b');
    await pass(SLOT_MS);
    enter('b2', 'b');
    await decided();
    clock.advance(SLOT_MS - 5);
    enter('a4', 'a', 0);
    enter('b3', 'b', 0);
    await pass(5);
    expect(log).toEqual(['a1 admitted', 'b1 admitted', 'a4 account', 'b3 account', 'a2 admitted']);
  });

  test('does not keep a tenant back because another waits for its own bucket', async () => {
    const { clock, enter, log } = await queueOf({ a: { ...ROOMY, rate: 1, burst: 1 }, b: ROOMY });
    enter('a1', 'a', 60_000);
    await decided();
    clock.advance(SLOT_MS);
    enter('a2', 'a', 60_000);
    enter('b1', 'b');
    await decided();
    expect(log).toEqual(['a1 admitted', 'b1 admitted']);
  });

  test('rejects at once a request whose time ends before its slot comes', async () => {
    const { enter, log, waiting } = await queueOf();
    enter('1');
    enter('2', 'a', SLOT_MS / 2);
    await decided();
    expect([log, waiting()]).toEqual([['1 admitted', '2 account'], 0]);
  });

  test('rejects a waiter when its time is over, with a code of its own', async () => {
    const { enter, pass, log, waiting } = await queueOf();
    for (const name of ['1', '2', '3', '4']) enter(name, 'a', 4 * SLOT_MS);
    for (const name of ['5', '6']) enter(name, 'b', 4 * SLOT_MS);
    await pass(4 * SLOT_MS);
    // The other tenant came later, and has its turns: the last one could not know.
    expect(log).toEqual([...['1', '5', '2', '6', '3'].map((name) => `${name} admitted`), '4 timed out']);
    expect(waiting()).toBe(0);
  });

  test('keeps no trace of a caller that disconnects: its place is free, and it has spent nothing', async () => {
    const { enter, pass, log, slotsInUse, waiting } = await queueOf();
    enter('1');
    const leaving = enter('2');
    enter('3');
    await decided();
    leaving.leave();
    expect(waiting()).toBe(1);
    await pass(SLOT_MS);
    expect(log).toEqual(['1 admitted', '2 disconnected', '3 admitted']);
    expect(slotsInUse()).toBe(2);
  });

  test('moves up those behind callers that disconnect', async () => {
    const { enter, pass, log } = await queueOf();
    enter('1');
    const leaving = Array.from({ length: 30 }, () => enter('leaving'));
    enter('last');
    await decided();
    for (const each of leaving) each.leave();
    await pass(SLOT_MS);
    expect(log.at(-1)).toBe('last admitted');
  });

  test('ends the wait of a caller that disconnected while the store decided', async () => {
    const { clock, enter, pass, log, waiting } = await queueOf();
    enter('1');
    enter('2').leave();
    await decided();
    expect([log, waiting(), clock.pending]).toEqual([['1 admitted', '2 disconnected'], 0, 0]);
    await pass(1_000);
    expect(log).toEqual(['1 admitted', '2 disconnected']);
  });

  test('closes for all waiters, and for all later requests', async () => {
    const { clock, enter, queue, log } = await queueOf();
    for (const name of ['1', '2', '3']) enter(name);
    await decided();
    queue.close();
    enter('4');
    await decided();
    expect([...log].sort()).toEqual(['1 admitted', '2 closed', '3 closed', '4 closed']);
    expect(clock.pending).toBe(0);
  });

  test('gives back the slot of a request that was admitted while the queue closed', async () => {
    const { enter, queue, log, slotsInUse } = await queueOf();
    enter('1');
    queue.close();
    await decided();
    expect([log, slotsInUse()]).toEqual([['1 closed'], 0]);
  });

  test('dismisses the requests of a tenant that may not call any more, later ones too, and no others', async () => {
    const { enter, queue, pass, log, slotsInUse, waiting } = await queueOf();
    for (const name of ['1', '2', '3']) enter(name);
    enter('other', 'b');
    await decided();
    queue.dismiss((tenant): TenantStatus => (tenant === 'a' ? 'removed' : 'active'));
    enter('4');
    await pass(3 * SLOT_MS);
    expect([...log].sort()).toEqual(['1 admitted', '2 dismissed', '3 dismissed', '4 dismissed', 'other admitted']);
    expect([waiting(), slotsInUse()]).toEqual([0, 2]);
  });

  test('is bounded, and no tenant takes the places that others may need', async () => {
    const { enter, log, waiting } = await queueOf();
    for (let i = 0; i < 700; i++) enter(String(i), 'a', 200_000);
    await decided();
    // The other half is free.
    expect(waiting()).toBe(500);
    expect(log.filter((line) => line.endsWith('account'))).toHaveLength(199);
    for (let i = 0; i < 700; i++) enter(String(i), 'b', 200_000);
    await decided();
    expect(waiting()).toBe(750);
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
