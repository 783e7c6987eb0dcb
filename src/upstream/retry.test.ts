import { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import type { MonotonicMs } from '../clock.ts';
import { AccessRecord } from '../context.ts';
import type { Meter } from '../ports.ts';
import type { Slot } from '../quota/quota-store.ts';
import {
  createRetry,
  isRetryable,
  MAX_BUDGET,
  MIN_BUDGET,
  MIN_BUDGET_AFTER_MS,
  RetryBudget,
  type RetryResult,
  retryDelayMs,
} from './retry.ts';
import type { TransportFailure, TransportResult } from './transport.ts';
import { createUpstreams, type UpstreamState } from './upstreams.ts';

const RULES = {
  origin: 'http://core.test',
  retries: { max: 2, budgetPercent: 100 },
  breaker: { enabled: true, failurePercent: 50, minRequests: 3, windowMs: 10_000, openMs: 1_000, maxOpenMs: 1_000 },
  maxInFlight: 10,
};
const LOST: TransportResult = { kind: 'failed', reason: 'protocol', mayBeSent: true, internal: '' };
const TIMEOUT_MS = 1_000;
const READ = { risk: 'read', tenant: 'billing', resource: '/flows' } as const;

/** A request with retries. The test sets the duration and the result of each attempt. */
function sending(results: readonly (readonly [tookMs: number, sent: TransportResult | Error])[]) {
  const clock = new ManualClock();
  const upstreams = createUpstreams({
    clock,
    random: () => 0.5,
    log: { debug() {}, info() {}, warn() {}, error() {} },
  });
  const upstreamState = upstreams.configure(new Map([['core', RULES]])).get('core') as UpstreamState;
  const slots = { given: 0, refunded: 0 };
  const slot = (): Slot => {
    slots.given += 1;
    const refund = (): void => {
      slots.refunded += 1;
    };
    return { complete() {}, lose() {}, refund };
  };
  const timeouts: number[] = [];
  const retries: string[] = [];
  const meter = { upstreamRetry: (_: string, reason: string) => void retries.push(reason) } as unknown as Meter;
  const send = createRetry({ clock, random: () => 0.5, meter });
  const context = {
    ...{ method: 'GET', payload: null, record: new AccessRecord(), trace: null, upstreamState, breakerRequest: READ },
    disconnect: { happened: false, onDisconnect: () => () => {} },
    route: { upstream: { id: 'core', timeoutMs: TIMEOUT_MS } },
    quota: { admitAgain: async () => ({ kind: 'admitted', slot: slot() }) },
  };
  const run = (): Promise<RetryResult> =>
    send(context as unknown as Parameters<typeof send>[0], slot(), async (_slot, timeoutMs) => {
      const [tookMs, sent] = results[timeouts.length] ?? [0, LOST];
      timeouts.push(timeoutMs);
      clock.advance(tookMs);
      if (sent instanceof Error) throw sent;
      return sent;
    });
  const settle = async (ended: Promise<unknown>): Promise<void> => {
    let done = false;
    void ended
      .catch(() => null)
      .then(() => {
        done = true;
      });
    for (let i = 0; i < 50 && !done; i += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      if (!done && clock.pending > 0) clock.advance(10);
    }
  };
  const breaker = () => upstreamState.breaker.state(clock.monotonic()).kind;
  return { clock, upstreamState, run, settle, timeouts, retries, slots, breaker };
}

describe('a request with retries', () => {
  test('stays within the timeout of the upstream, with all attempts and pauses', async () => {
    const it = sending([
      [600, LOST],
      [340, LOST],
    ]);
    const ended = it.run();
    await it.settle(ended);
    expect(await ended).toBe(LOST);
    // The pause takes 50 ms. The rest after the second attempt is shorter than the next pause.
    expect(it.timeouts).toEqual([1_000, 350]);
    expect([it.slots.given, it.retries]).toEqual([2, ['protocol']]);
  });

  test('ends when its failures open the breaker, and takes no slot for an attempt that is not sent', async () => {
    const it = sending([
      [10, LOST],
      [10, LOST],
      [10, LOST],
    ]);
    const first = it.run();
    await it.settle(first);
    expect([it.timeouts.length, it.breaker(), it.slots.given]).toEqual([3, 'open', 3]);
    const second = await it.run();
    expect([second.kind, it.timeouts.length]).toEqual(['breaker_open', 3]);
    expect([it.slots.given, it.slots.refunded]).toEqual([4, 1]);
  });

  test('that is a probe and fails by an internal error does not keep the breaker half-open', async () => {
    const it = sending([
      [0, LOST],
      [0, LOST],
      [0, LOST],
      [0, new Error('internal')],
      [0, new Error('internal')],
    ]);
    await it.settle(it.run());
    it.clock.advance(1_000);
    for (let i = 0; i < 2; i += 1) await expect(it.run()).rejects.toThrow('internal');
    expect(it.breaker()).toBe('half-open');
    expect(it.upstreamState.breaker.retryAfterMs(READ, it.clock.monotonic())).toBe(null);
  });
});

const response = (status: number, headers: string[] = []): TransportResult => {
  return { kind: 'response', status, headers, body: null, endsWithConnection: false, headersAt: 0 as MonotonicMs };
};
const failed = (reason: TransportFailure, mayBeSent: boolean): TransportResult => {
  return { kind: 'failed', reason, mayBeSent, internal: '' };
};
const WRITES = ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'get'];
const READS = ['GET', 'HEAD'];
const retried = (methods: readonly string[], sent: TransportResult, payload: Buffer | Readable | null = null) =>
  methods.filter((method) => isRetryable({ method, payload, route: {} }, sent));

describe('a retry', () => {
  test('is made for any method if no byte was sent, and never for a write that may have been sent', () => {
    expect(retried([...WRITES, ...READS], failed('unreachable', false))).toEqual([...WRITES, ...READS]);
    const REASONS = ['unreachable', 'timeout', 'protocol', 'client_closed', 'body_too_large', 'body_broken'] as const;
    for (const reason of REASONS) expect(retried(WRITES, failed(reason, true)), reason).toEqual([]);
    for (let status = 200; status < 600; status += 1) expect(retried(WRITES, response(status))).toEqual([]);
  });

  test('is made for no read that starts a run, unless no byte was sent', () => {
    const start = { method: 'GET', payload: null, route: { starts: true } };
    const afterAll = [
      failed('protocol', true),
      failed('unreachable', true),
      response(502),
      response(503),
      response(504),
    ];
    for (const sent of afterAll) expect(isRetryable(start, sent)).toBe(false);
    expect(isRetryable(start, failed('unreachable', false))).toBe(true);
  });

  test('is made for reads after a lost connection, 502, 503 and 504, and neither after 429 nor 500', () => {
    expect(retried(READS, failed('protocol', true))).toEqual(READS);
    const statuses = Array.from({ length: 400 }, (_, i) => 200 + i);
    expect(statuses.filter((status) => retried(READS, response(status)).length > 0)).toEqual([502, 503, 504]);
  });

  test('is not made after a timeout, a disconnect or a failure of the caller’s body', () => {
    for (const reason of ['timeout', 'client_closed', 'body_too_large', 'body_broken'] as const) {
      for (const mayBeSent of [true, false])
        expect(retried([...READS, ...WRITES], failed(reason, mayBeSent))).toEqual([]);
    }
  });

  test('is not made for a streamed body', () => {
    expect(retried(['POST'], failed('unreachable', false), Buffer.from('{}'))).toEqual(['POST']);
    expect(retried(['POST', 'GET'], failed('unreachable', false), Readable.from(['{}']))).toEqual([]);
  });
});

describe('the pause before a retry', () => {
  test('is random up to a bound that doubles, and one second at most', () => {
    const lost = failed('protocol', true);
    expect([0, 1, 2, 9].map((retries) => retryDelayMs(retries, lost, () => 0.5))).toEqual([50, 100, 200, 500]);
    expect(retryDelayMs(0, lost, () => 0)).toBe(0);
  });

  test('is the upstream’s Retry-After where that is longer; a date is too long', () => {
    const requested = (value: string) => retryDelayMs(0, response(503, ['Retry-After', value]), () => 0.5);
    expect([requested('2'), requested('0'), requested('soon'), requested('Wed, 21 Oct 2026 07:28:00 GMT')]).toEqual([
      2_000,
      50,
      Number.POSITIVE_INFINITY,
      Number.POSITIVE_INFINITY,
    ]);
  });
});

const at = (ms: number) => ms as MonotonicMs;

describe('the retry budget', () => {
  test('is a tenth of the requests, and the retries of one request with little traffic', () => {
    const budget = new RetryBudget(10);
    expect([budget.take(at(0)), budget.take(at(0)), budget.take(at(0))]).toEqual([true, true, false]);
    for (let i = 0; i < 9; i += 1) budget.deposit();
    expect(budget.take(at(1))).toBe(false);
    budget.deposit();
    expect([budget.take(at(1)), budget.take(at(1))]).toEqual([true, false]);
    expect(budget.take(at(MIN_BUDGET_AFTER_MS))).toBe(false);
    expect([0, 1, 2].map(() => budget.take(at(MIN_BUDGET_AFTER_MS + 1)))).toEqual([true, true, false]);
  });

  test('of 0 allows no retry, and a reload changes the share', () => {
    const budget = new RetryBudget(0);
    for (let i = 0; i < 100; i += 1) budget.deposit();
    expect(budget.take(at(0))).toBe(false);
    budget.configure(50);
    expect([0, 1, 2].map(() => budget.take(at(0)))).toEqual([true, true, false]);
    budget.deposit();
    budget.deposit();
    expect(budget.take(at(0))).toBe(true);
  });

  test('is never exceeded, in any order of requests, failures and time', () => {
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.constant('deposit' as const) },
      { weight: 5, arbitrary: fc.constant('take' as const) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 20_000 }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 500 }), fc.integer({ min: 1, max: 100 }), (steps, percent) => {
        const budget = new RetryBudget(percent);
        let [now, deposits, taken] = [0, 0, 0];
        for (const each of steps) {
          if (each === 'deposit') {
            budget.deposit();
            deposits += 1;
          } else if (each === 'take') taken += budget.take(at(now)) ? 1 : 0;
          else now += each;
          const minimum = MIN_BUDGET * (1 + Math.floor(now / MIN_BUDGET_AFTER_MS));
          expect(taken).toBeLessThanOrEqual((deposits * percent) / 100 + minimum + 1e-6);
        }
      }),
    );
  });

  test('allows a burst of ten retries after much traffic, not more', () => {
    const budget = new RetryBudget(10);
    for (let i = 0; i < 10_000; i += 1) budget.deposit();
    let taken = 0;
    while (budget.take(at(0))) taken += 1;
    expect(taken).toBe(MAX_BUDGET);
  });
});
