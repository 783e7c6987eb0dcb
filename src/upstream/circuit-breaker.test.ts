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

const RULES: BreakerRules = {
  ...{ enabled: true, failurePercent: 50, minRequests: 4 },
  ...{ windowMs: 10_000, openMs: 1_000, maxOpenMs: 8_000 },
};

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
    retryAfterMs: (risk: Risk = 'read') => breaker.retryAfterMs(risk, at()),
    allow: (risk: Risk = 'read') => breaker.allow(risk, at()),
    report: (decision: BreakerDecision, result: AttemptResult) => {
      if (decision.kind === 'allowed') breaker.report(decision, result, at());
      return decision.kind;
    },
    send(result: AttemptResult, risk: Risk = 'read') {
      return this.report(this.allow(risk), result);
    },
    fail(times: number) {
      for (let i = 0; i < times; i += 1) this.send('failure');
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
    expect((['read', 'write', 'background'] as const).map(it.retryAfterMs)).toEqual([700, 700, 700]);
  });

  test('forgets attempts that are older than the window', () => {
    const it = createBreaker();
    it.fail(3);
    it.wait(RULES.windowMs);
    it.fail(1);
    expect(it.kind()).toBe('closed');
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

  const step = fc.oneof(
    fc.record({ do: fc.constant('allow' as const), risk: fc.constantFrom<Risk>('read', 'write', 'background') }),
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
          const inFlight: { decision: BreakerDecision; during: string; period: number }[] = [];
          for (const each of steps) {
            if (each.do === 'wait') it.wait(each.ms);
            else if (each.do === 'report') {
              const [first] = inFlight.splice(0, 1);
              if (first !== undefined) it.report(first.decision, each.result);
            } else {
              const [kind, rejected] = [it.kind(), it.retryAfterMs(each.risk)];
              const decision = it.allow(each.risk);
              expect(decision.kind === 'rejected').toBe(rejected !== null);
              if (kind === 'open') expect(decision.kind).toBe('rejected');
              if (decision.kind === 'rejected') expect(decision.retryAfterMs).toBeGreaterThan(0);
              else inFlight.push({ decision, during: kind, period: it.kinds.length });
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
        const inFlight: BreakerDecision[] = [];
        for (const each of steps) {
          if (each.do === 'wait') it.wait(each.ms);
          else if (each.do === 'allow') inFlight.push(it.allow(each.risk));
          else if (inFlight.length > 0) it.report(inFlight.shift() as BreakerDecision, each.result);
        }
        for (const decision of inFlight) it.report(decision, 'ignored');
        for (let i = 0; i < 4 && it.kind() !== 'closed'; i += 1) {
          it.wait(it.retryAfterMs('write') ?? 0);
          it.send('success', 'write');
        }
        expect(it.kind()).toBe('closed');
      }),
    );
  });
});
