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

function breaking(rules: Partial<BreakerRules> = {}, random: () => number = () => 0) {
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
    refuses: (stake: Risk = 'read') => breaker.retryAfterMs(stake, at()),
    pass: (stake: Risk = 'read') => breaker.pass(stake, at()),
    report: (passage: BreakerDecision, verdict: AttemptResult) => {
      if (passage.kind === 'passed') breaker.report(passage, verdict, at());
      return passage.kind;
    },
    send(verdict: AttemptResult, stake: Risk = 'read') {
      return this.report(this.pass(stake), verdict);
    },
    fail(times: number) {
      for (let i = 0; i < times; i += 1) this.send('failed');
    },
  };
}

describe('a breaker', () => {
  test('stays closed below the minimum, and below the share of failures', () => {
    const few = breaking();
    few.fail(3);
    expect(few.kind()).toBe('closed');
    const half = breaking({ failurePercent: 60 });
    for (let i = 0; i < 50; i += 1) half.send(i % 2 === 0 ? 'good' : 'failed');
    expect(half.kind()).toBe('closed');
  });

  test('opens at the share, refuses all, and says when it will ask again', () => {
    const it = breaking();
    for (const verdict of ['good', 'failed', 'good', 'failed'] as const) it.send(verdict);
    expect(it.kind()).toBe('open');
    it.wait(300);
    expect((['read', 'write', 'background'] as const).map(it.refuses)).toEqual([700, 700, 700]);
  });

  test('forgets what is older than the window', () => {
    const it = breaking();
    it.fail(3);
    it.wait(RULES.windowMs);
    it.fail(1);
    expect(it.kind()).toBe('closed');
  });

  test('counts neither what says nothing nor what was sent before it opened', () => {
    const it = breaking();
    for (let i = 0; i < 20; i += 1) it.send('void');
    const early = it.pass();
    it.fail(4);
    it.wait(1_000);
    expect(it.kind()).toBe('half-open');
    it.report(early, 'failed');
    expect(it.kind()).toBe('half-open');
  });

  test('closes after good probes only, and opens for twice as long, up to the longest, after a bad one', () => {
    const it = breaking();
    it.fail(4);
    const pauses: number[] = [];
    for (let i = 0; i < 5; i += 1) {
      const left = it.refuses() ?? 0;
      pauses.push(left);
      it.wait(left);
      it.send('failed');
    }
    expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, 8_000]);
    it.wait(8_000);
    it.send('good');
    expect(it.kind()).toBe('half-open');
    it.send('good');
    expect(it.kind()).toBe('closed');
    expect(it.kinds.at(-1)).toBe('closed');
  });

  test('that opens again right after it closed goes on with its pauses; after a good while it begins anew', () => {
    const it = breaking();
    it.fail(4);
    it.wait(1_000);
    it.send('good');
    it.send('good');
    it.fail(4);
    expect(it.refuses()).toBe(2_000);
    it.wait(2_000);
    it.send('good');
    it.send('good');
    it.wait(RULES.windowMs + 1);
    it.fail(4);
    expect(it.refuses()).toBe(1_000);
  });

  test('is probed by two at a time, by reads first, by writes where nobody reads, and never by what nobody waits for', () => {
    const it = breaking();
    it.fail(4);
    it.wait(1_000);
    expect([it.pass('background').kind, it.pass('write').kind]).toEqual(['refused', 'refused']);
    const probes = [it.pass(), it.pass(), it.pass()];
    expect(probes.map(({ kind }) => kind)).toEqual(['passed', 'passed', 'refused']);
    // Whose caller left frees the place, and closes nothing.
    it.report(probes[0] as BreakerDecision, 'void');
    expect([it.kind(), it.pass().kind]).toEqual(['half-open', 'passed']);
    const alone = breaking();
    alone.fail(4);
    alone.wait(1_000);
    expect([alone.refuses('read'), alone.refuses('write')]).toEqual([null, 1_000]);
    alone.wait(1_000);
    expect([alone.pass('write').kind, alone.pass('background').kind]).toEqual(['passed', 'refused']);
  });

  test('shortens a pause by a quarter at most', () => {
    const it = breaking({}, () => 0.999_999);
    it.fail(4);
    expect(it.refuses()).toBeCloseTo(750, 1);
  });

  test('that a reload turns off lets all through, and one turned on again begins anew', () => {
    const it = breaking();
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
    fc.record({ do: fc.constant('pass' as const), stake: fc.constantFrom<Risk>('read', 'write', 'background') }),
    fc.record({
      do: fc.constant('report' as const),
      verdict: fc.constantFrom<AttemptResult>('good', 'failed', 'void'),
    }),
    fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 3_000 }) }),
  );

  test('never lets anything through while open, nor more than its probes while half-open, whatever happens', () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 300 }),
        fc.double({ min: 0, max: 0.99, noNaN: true }),
        (steps, chance) => {
          const it = breaking({}, () => chance);
          const underWay: { passage: BreakerDecision; during: string; period: number }[] = [];
          for (const each of steps) {
            if (each.do === 'wait') it.wait(each.ms);
            else if (each.do === 'report') {
              const [first] = underWay.splice(0, 1);
              if (first !== undefined) it.report(first.passage, each.verdict);
            } else {
              const [kind, refused] = [it.kind(), it.refuses(each.stake)];
              const passage = it.pass(each.stake);
              expect(passage.kind === 'refused').toBe(refused !== null);
              if (kind === 'open') expect(passage.kind).toBe('refused');
              if (passage.kind === 'refused') expect(passage.retryAfterMs).toBeGreaterThan(0);
              else underWay.push({ passage, during: kind, period: it.kinds.length });
            }
            const probing = underWay.filter(
              ({ during, period }) => during === 'half-open' && period === it.kinds.length,
            );
            expect(probing.length).toBeLessThanOrEqual(PROBES);
          }
        },
      ),
    );
  });

  test('is never stuck: with an upstream that is well it closes, from wherever it is', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const it = breaking();
        const underWay: BreakerDecision[] = [];
        for (const each of steps) {
          if (each.do === 'wait') it.wait(each.ms);
          else if (each.do === 'pass') underWay.push(it.pass(each.stake));
          else if (underWay.length > 0) it.report(underWay.shift() as BreakerDecision, each.verdict);
        }
        for (const passage of underWay) it.report(passage, 'void');
        for (let i = 0; i < 4 && it.kind() !== 'closed'; i += 1) {
          it.wait(it.refuses('write') ?? 0);
          it.send('good', 'write');
        }
        expect(it.kind()).toBe('closed');
      }),
    );
  });
});
