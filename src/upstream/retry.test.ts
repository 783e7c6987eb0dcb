import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { DEFAULT_WAIT_TERMS, newAccessRecord } from '../context.ts';
import type { Meter } from '../ports.ts';
import type { Slot } from '../quota/ledger.ts';
import { createRetry, type RetryResult } from './retry.ts';
import type { TransportResult } from './transport.ts';
import { createUpstreams } from './upstreams.ts';

const RULES = {
  origin: 'http://core.test',
  retries: { max: 2, budgetPercent: 100 },
  breaker: { enabled: true, failurePercent: 50, minRequests: 3, windowMs: 10_000, openMs: 1_000, maxOpenMs: 1_000 },
  maxInFlight: 10,
};
const LOST: TransportResult = { kind: 'failed', reason: 'protocol', mayHaveLeft: true, internal: '' };
const TIMEOUT_MS = 1_000;

/** One request whose attempts take as long and end as the test says. */
function resending(outcomes: readonly (readonly [tookMs: number, sent: TransportResult | Error])[]) {
  const clock = new ManualClock();
  const upstreams = createUpstreams({
    upstreams: new Map([['core', RULES]]),
    clock,
    random: () => 0.5,
    log: { debug() {}, info() {}, warn() {}, error() {} },
  });
  const slots = { given: 0, refunded: 0 };
  const slot = (): Slot => {
    slots.given += 1;
    const refund = (): void => {
      slots.refunded += 1;
    };
    return { settle() {}, lose() {}, refund };
  };
  const timeouts: number[] = [];
  const retries: string[] = [];
  const meter = { upstreamRetry: (_: string, reason: string) => void retries.push(reason) } as unknown as Meter;
  const resend = createRetry({ upstreams, clock, random: () => 0.5, meter });
  const context = {
    ...{ method: 'GET', payload: null, waitTerms: DEFAULT_WAIT_TERMS, record: newAccessRecord(), trace: null },
    disconnect: { happened: false, onDisconnect: () => () => {} },
    route: { upstream: { id: 'core', timeoutMs: TIMEOUT_MS } },
    admitAgain: () => ({ kind: 'admitted', slot: slot() }),
  };
  const run = (): Promise<RetryResult> =>
    resend(context as unknown as Parameters<typeof resend>[0], slot(), async (_slot, timeoutMs) => {
      const [tookMs, sent] = outcomes[timeouts.length] ?? [0, LOST];
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
  const breaker = () => upstreams.of('core').breaker.state(clock.monotonic()).kind;
  return { clock, upstreams, run, settle, timeouts, retries, slots, breaker };
}

describe('sending again', () => {
  test('stays within the timeout of the upstream, pauses and all attempts together', async () => {
    const it = resending([
      [600, LOST],
      [340, LOST],
    ]);
    const ended = it.run();
    await it.settle(ended);
    expect(await ended).toBe(LOST);
    // A pause of 50 ms in between; what was left after the second was shorter than the next pause.
    expect(it.timeouts).toEqual([1_000, 350]);
    expect([it.slots.given, it.retries]).toEqual([2, ['protocol']]);
  });

  test('ends when the breaker opens by it, and takes no slot for what is not sent', async () => {
    const it = resending([
      [10, LOST],
      [10, LOST],
      [10, LOST],
    ]);
    const first = it.run();
    await it.settle(first);
    expect([it.timeouts.length, it.breaker(), it.slots.given]).toEqual([3, 'open', 3]);
    const second = await it.run();
    expect([second.kind, it.timeouts.length]).toEqual(['broken', 3]);
    expect([it.slots.given, it.slots.refunded]).toEqual([4, 1]);
  });

  test('of a probe that fails by a fault of our own does not keep the breaker half-open', async () => {
    const it = resending([
      [0, LOST],
      [0, LOST],
      [0, LOST],
      [0, new Error('ours')],
      [0, new Error('ours')],
    ]);
    await it.settle(it.run());
    it.clock.advance(1_000);
    for (let i = 0; i < 2; i += 1) await expect(it.run()).rejects.toThrow('ours');
    expect(it.breaker()).toBe('half-open');
    expect(it.upstreams.of('core').breaker.retryAfterMs('read', it.clock.monotonic())).toBe(null);
  });
});
