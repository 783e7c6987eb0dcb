import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { MonotonicMs } from '../clock.ts';
import {
  type AttemptResult,
  type BreakerDecision,
  type BreakerRules,
  CircuitBreaker,
  PROBES,
  type Risk,
} from './circuit-breaker.ts';
import type { Source } from './failure-window.ts';

const RULES: BreakerRules = {
  ...{ enabled: true, failurePercent: 50, minRequests: 4 },
  ...{ windowMs: 10_000, openMs: 1_000, maxOpenMs: 8_000 },
};

const ALONE: Source = { tenant: 'a', resource: '/x' };
const of = (tenant: string, resource = '/x'): Source => ({ tenant, resource });

function createBreaker(rules: Partial<BreakerRules> = {}, random: () => number = () => 0) {
  let now = 0;
  const at = (): MonotonicMs => now as MonotonicMs;
  const kinds: string[] = [];
  const breaker = new CircuitBreaker({ ...RULES, ...rules }, random, ({ kind }) => void kinds.push(kind));
  return {
    breaker,
    kinds,
    wait: (ms: number) => {
      now += ms;
    },
    kind: () => breaker.state(at()).kind,
    tenant: () => {
      const state = breaker.state(at());
      return state.kind === 'closed' ? null : state.tenant;
    },
    retryAfterMs: (risk: Risk = 'read', from: Source = ALONE) => breaker.retryAfterMs({ risk, ...from }, at()),
    allow: (risk: Risk = 'read', from: Source = ALONE) => breaker.allow({ risk, ...from }, at()),
    report: (decision: BreakerDecision, result: AttemptResult, from: Source = ALONE) => {
      if (decision.kind === 'allowed') breaker.report(decision, { risk: 'read', ...from }, result, at());
      return decision.kind;
    },
    send(result: AttemptResult, risk: Risk = 'read', from: Source = ALONE) {
      return this.report(this.allow(risk, from), result, from);
    },
    fail(times: number, from: Source = ALONE) {
      for (let i = 0; i < times; i += 1) this.send('failure', 'read', from);
    },
    succeed(times: number, from: Source = ALONE) {
      for (let i = 0; i < times; i += 1) this.send('success', 'read', from);
    },
  };
}

describe('a circuit breaker', () => {
  test('stays closed below the minimum of requests, and below the share of failures', () => {
    const few = createBreaker();
    few.fail(3);
    expect(few.kind()).toBe('closed');
    const half = createBreaker({ failurePercent: 60 });
    for (let i = 0; i < 50; i += 1) half.send(i % 2 === 0 ? 'success' : 'failure');
    expect(half.kind()).toBe('closed');
  });

  test('opens at the share of failures, rejects every request, and gives the time until the next try', () => {
    const it = createBreaker();
    for (const result of ['success', 'failure', 'success', 'failure'] as const) it.send(result);
    expect(it.kind()).toBe('open');
    it.wait(300);
    expect((['read', 'write', 'background'] as const).map((risk) => it.retryAfterMs(risk))).toEqual([700, 700, 700]);
  });

  test('forgets attempts that are older than the window', () => {
    const it = createBreaker();
    it.fail(3);
    it.wait(RULES.windowMs);
    it.fail(1);
    expect(it.kind()).toBe('closed');
  });

  test('judges by the latest thousand attempts of a window that has more', () => {
    const it = createBreaker({ minRequests: 5_000 });
    it.succeed(5_000);
    it.fail(499);
    expect(it.kind()).toBe('closed');
    it.fail(1);
    expect(it.kind()).toBe('open');
  });

  test('counts neither ignored attempts nor attempts that were sent before it opened', () => {
    const it = createBreaker();
    for (let i = 0; i < 20; i += 1) it.send('ignored');
    const early = it.allow();
    it.fail(4);
    it.wait(1_000);
    expect(it.kind()).toBe('half-open');
    it.report(early, 'failure');
    expect(it.kind()).toBe('half-open');
  });

  test('closes after successful probes only, and opens for twice as long, up to the maximum, after a failed one', () => {
    const it = createBreaker();
    it.fail(4);
    const periods: number[] = [];
    for (let i = 0; i < 5; i += 1) {
      const left = it.retryAfterMs() ?? 0;
      periods.push(left);
      it.wait(left);
      it.send('failure');
    }
    expect(periods).toEqual([1_000, 2_000, 4_000, 8_000, 8_000]);
    it.wait(8_000);
    it.send('success');
    expect(it.kind()).toBe('half-open');
    it.send('success');
    expect(it.kind()).toBe('closed');
    expect(it.kinds.at(-1)).toBe('closed');
  });

  test('that opens while probes are in flight has room for as many the next time', () => {
    const it = createBreaker();
    it.fail(4);
    for (const periodMs of [1_000, 2_000, 4_000]) {
      it.wait(periodMs);
      const [first, second, third] = [it.allow(), it.allow(), it.allow()] as const;
      expect([first.kind, second.kind, third.kind]).toEqual(['allowed', 'allowed', 'rejected']);
      it.report(first, 'failure');
      it.report(second, 'success');
      expect(it.kind()).toBe('open');
    }
  });

  test('that opens again within a window continues to double its open period; later it starts with the first', () => {
    const it = createBreaker();
    it.fail(4);
    it.wait(1_000);
    it.send('success');
    it.send('success');
    it.fail(4);
    expect(it.retryAfterMs()).toBe(2_000);
    it.wait(2_000);
    it.send('success');
    it.send('success');
    it.wait(RULES.windowMs + 1);
    it.fail(4);
    expect(it.retryAfterMs()).toBe(1_000);
  });

  test('allows two probes at a time: reads first, writes where no caller reads, and background requests never', () => {
    const it = createBreaker();
    it.fail(4);
    it.wait(1_000);
    expect([it.allow('background').kind, it.allow('write').kind]).toEqual(['rejected', 'rejected']);
    const probes = [it.allow(), it.allow(), it.allow()];
    expect(probes.map(({ kind }) => kind)).toEqual(['allowed', 'allowed', 'rejected']);
    // A probe whose client disconnected makes room for another one and closes nothing.
    it.report(probes[0] as BreakerDecision, 'ignored');
    expect([it.kind(), it.allow().kind]).toEqual(['half-open', 'allowed']);
    const alone = createBreaker();
    alone.fail(4);
    alone.wait(1_000);
    expect([alone.retryAfterMs('read'), alone.retryAfterMs('write')]).toEqual([null, 1_000]);
    alone.wait(1_000);
    expect([alone.allow('write').kind, alone.allow('background').kind]).toEqual(['allowed', 'rejected']);
  });

  test('shortens an open period by a quarter at most', () => {
    const it = createBreaker({}, () => 0.999_999);
    it.fail(4);
    expect(it.retryAfterMs()).toBeCloseTo(750, 1);
  });

  test('that a reload disables allows everything, and starts from zero when it is enabled again', () => {
    const it = createBreaker();
    it.fail(4);
    it.breaker.configure({ ...RULES, enabled: false });
    it.fail(10);
    expect(it.kind()).toBe('closed');
    it.breaker.configure(RULES);
    it.fail(3);
    expect(it.kind()).toBe('closed');
    it.fail(1);
    expect(it.kind()).toBe('open');
  });

  test('forgets failures when it closes, and keeps successes', () => {
    const it = createBreaker();
    it.succeed(4);
    it.fail(4);
    it.wait(1_000);
    it.succeed(2);
    it.fail(5);
    expect(it.kind()).toBe('closed');
    it.fail(1);
    expect(it.kind()).toBe('open');
  });

  const step = fc.oneof(
    fc.record({
      do: fc.constant('allow' as const),
      risk: fc.constantFrom<Risk>('read', 'write', 'background'),
      from: fc.record({ tenant: fc.constantFrom('a', 'b', 'c'), resource: fc.constantFrom('/x', '/y') }),
    }),
    fc.record({
      do: fc.constant('report' as const),
      result: fc.constantFrom<AttemptResult>('success', 'failure', 'ignored'),
    }),
    fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 3_000 }) }),
  );

  test('never allows a request while open, nor more than its probes while half-open, in any order of events', () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 300 }),
        fc.double({ min: 0, max: 0.99, noNaN: true }),
        (steps, chance) => {
          const it = createBreaker({}, () => chance);
          const inFlight: { decision: BreakerDecision; from: Source; during: string; period: number }[] = [];
          for (const each of steps) {
            if (each.do === 'wait') it.wait(each.ms);
            else if (each.do === 'report') {
              const [first] = inFlight.splice(0, 1);
              if (first !== undefined) it.report(first.decision, each.result, first.from);
            } else {
              const { risk, from } = each;
              const [kind, rejected] = [it.kind(), it.retryAfterMs(risk, from)];
              // For another tenant the breaker is closed.
              const during = (it.tenant() ?? from.tenant) === from.tenant ? kind : 'closed';
              const decision = it.allow(risk, from);
              expect(decision.kind === 'rejected').toBe(rejected !== null);
              if (during === 'open') expect(decision.kind).toBe('rejected');
              if (during === 'closed') expect(decision.kind).toBe('allowed');
              if (decision.kind === 'rejected') expect(decision.retryAfterMs).toBeGreaterThan(0);
              else inFlight.push({ decision, from, during, period: it.kinds.length });
            }
            const probing = inFlight.filter(
              ({ during, period }) => during === 'half-open' && period === it.kinds.length,
            );
            expect(probing.length).toBeLessThanOrEqual(PROBES);
          }
        },
      ),
    );
  });

  test('closes with a healthy upstream from any state', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const it = createBreaker();
        const inFlight: (readonly [BreakerDecision, Source])[] = [];
        for (const each of steps) {
          const [first] = inFlight;
          if (each.do === 'wait') it.wait(each.ms);
          else if (each.do === 'allow') inFlight.push([it.allow(each.risk, each.from), each.from]);
          else if (first !== undefined) {
            inFlight.shift();
            it.report(first[0], each.result, first[1]);
          }
        }
        for (const [decision, from] of inFlight) it.report(decision, 'ignored', from);
        const from = of(it.tenant() ?? 'a');
        for (let i = 0; i < 4 && it.kind() !== 'closed'; i += 1) {
          it.wait(it.retryAfterMs('write', from) ?? 0);
          it.send('success', 'write', from);
        }
        expect(it.kind()).toBe('closed');
      }),
    );
  });
});

describe('a circuit breaker with several tenants', () => {
  const opened = (): ReturnType<typeof createBreaker> => {
    const it = createBreaker();
    it.fail(2, of('a'));
    it.fail(2, of('b'));
    expect([it.kind(), it.tenant()]).toEqual(['open', null]);
    return it;
  };

  test('opens for all when more than one tenant fails', () => {
    const it = opened();
    expect(it.retryAfterMs('read', of('c'))).toBe(1_000);
  });

  test('stays closed while one tenant fails with one resource and anything else was tried', () => {
    const otherTenant = createBreaker();
    otherTenant.succeed(1, of('b', '/y'));
    otherTenant.fail(50, of('a'));
    expect(otherTenant.kind()).toBe('closed');
    const otherResource = createBreaker();
    otherResource.succeed(1, of('a', '/y'));
    otherResource.fail(50, of('a'));
    expect(otherResource.kind()).toBe('closed');
  });

  test('opens for a tenant that fails with two resources, unless the requests of others succeed', () => {
    const it = createBreaker();
    it.succeed(1, of('b', '/z'));
    for (let i = 0; i < 10; i += 1) it.fail(1, of('a', i % 2 === 0 ? '/x' : '/y'));
    expect([it.kind(), it.tenant(), it.retryAfterMs('read', of('b'))]).toEqual(['open', 'a', null]);
    const compared = createBreaker();
    compared.succeed(2, of('b', '/z'));
    for (let i = 0; i < 50; i += 1) compared.fail(1, of('a', i % 2 === 0 ? '/x' : '/y'));
    expect(compared.kind()).toBe('closed');
  });

  test('is not opened for others by a stray failure of theirs beside the many of one tenant', () => {
    const it = createBreaker();
    it.fail(50, of('a'));
    it.succeed(9, of('b', '/y'));
    it.fail(1, of('b', '/y'));
    it.fail(50, of('a'));
    expect(it.kind()).toBe('closed');
  });

  test('opens only for the one tenant that has failures, and closes when another one succeeds', () => {
    const it = createBreaker();
    it.fail(4, of('a'));
    expect([it.kind(), it.tenant()]).toEqual(['open', 'a']);
    expect([it.retryAfterMs('read', of('a')), it.retryAfterMs('write', of('b'))]).toEqual([1_000, null]);
    it.succeed(1, of('b', '/y'));
    expect(it.kind()).toBe('closed');
    it.fail(50, of('a'));
    expect(it.kind()).toBe('closed');
  });

  test('that is open for one tenant opens for all when another one fails too', () => {
    const it = createBreaker();
    it.fail(4, of('a'));
    it.fail(1, of('b'));
    expect([it.kind(), it.tenant(), it.retryAfterMs('read', of('c'))]).toEqual(['open', null, 2_000]);
  });

  test('lets a tenant without failures probe first, if it was rejected, and the others a pause later', () => {
    const it = opened();
    it.retryAfterMs('read', of('c'));
    it.wait(1_000);
    expect([it.retryAfterMs('read', of('a')), it.retryAfterMs('read', of('b'))]).toEqual([1_000, 1_000]);
    expect(it.retryAfterMs('read', of('c'))).toBe(null);
    it.wait(1_000);
    expect([it.retryAfterMs('read', of('a')), it.retryAfterMs('read', of('b'))]).toEqual([null, null]);
    it.succeed(2, of('c', '/y'));
    expect(it.kind()).toBe('closed');
  });

  test('lets any tenant probe at once if no other was rejected, or only in the background', () => {
    const it = opened();
    it.retryAfterMs('background', of('c'));
    it.wait(1_000);
    expect(it.retryAfterMs('read', of('a'))).toBe(null);
  });

  test('opens within half a window more when all requests fail after it has worked for all', () => {
    const it = createBreaker({ windowMs: 10_000, minRequests: 10 });
    const all = ['a', 'a', 'a', 'a', 'a', 'a', 'a', 'b', 'b', 'c'];
    for (let second = 0; second < 10; second += 1) {
      for (const tenant of all) it.succeed(1, of(tenant));
      it.wait(1_000);
    }
    let seconds = 0;
    for (; it.kind() === 'closed' && seconds < 20; seconds += 1) {
      for (const tenant of all) it.fail(1, of(tenant));
      it.wait(1_000);
    }
    expect(seconds).toBeLessThanOrEqual(6);
  });
});
