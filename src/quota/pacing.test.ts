import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LeaseWindow } from './lease-window.ts';
import { MAX_CARRY, Pacing } from './pacing.ts';

/** An account whose requests take no time but this. */
class Account {
  readonly window = new LeaseWindow();
  readonly ceiling: number;
  readonly admissions: number[] = [];
  now = 0;
  readonly #pacing = new Pacing(0);
  readonly #inFlight: number[] = [];
  readonly #latencyMs: number;

  constructor(ceiling: number, latencyMs = 0) {
    this.ceiling = ceiling;
    this.#latencyMs = latencyMs;
  }

  /** At the pace, or as a burst. @returns whether there was a slot */
  admit(kind: 'paced' | 'burst', { external = 0, externalEndsInMs = 0 } = {}): boolean {
    const { window, now, ceiling } = this;
    while (this.#inFlight[0] !== undefined && this.#inFlight[0] <= now) {
      window.complete(this.#inFlight.shift() as number);
    }
    const free = ceiling - window.held(now) - external;
    this.#pacing.update({ usable: ceiling, free, external, externalEndsInMs, window }, now);
    const available = kind === 'burst' ? this.#pacing.headroom : this.#pacing.available(now, 0);
    if (Math.min(free, available) < 1) return false;
    window.lease();
    this.#pacing.admitted(now);
    this.#inFlight.push(now + this.#latencyMs);
    this.admissions.push(now);
    return true;
  }

  /** As many as there are. */
  most(kind: 'paced' | 'burst', more = {}): number {
    let admitted = 0;
    while (this.admit(kind, more)) admitted += 1;
    return admitted;
  }

  /** Requests wait. */
  saturate(ms: number, more?: (now: number) => object): void {
    for (const end = this.now + ms; this.now < end; this.now += 10) this.most('paced', more?.(this.now));
  }

  waitMs(): number {
    return this.#pacing.waitMs(1, this.now);
  }
}

describe('the pace', () => {
  test('of an idle account is that of its ceiling, and what comes late is made up for, up to four at once', () => {
    const account = new Account(60);
    account.now = 120_000;
    const atOnce = account.most('paced');
    // The last may come a millisecond later.
    account.now += 1;
    expect(atOnce + account.most('paced')).toBe(MAX_CARRY);
    // Four of sixty are spent: the others last for a minute.
    account.now += 1_000;
    expect(account.most('paced')).toBe(0);
    account.now += 80;
    expect(account.most('paced')).toBe(1);
  });

  test('after a burst is what is left for the minute, and at least half of that of the ceiling', () => {
    const account = new Account(60);
    account.now = 120_000;
    expect(account.most('burst')).toBe(30);
    account.now += 100;
    account.admit('paced');
    const from = account.admissions.length;
    account.saturate(58_000);
    expect(account.admissions.length - from).toBeGreaterThanOrEqual(27);
    expect(account.window.held(account.now)).toBeLessThanOrEqual(60);
  });

  test('is computed from what others leave', () => {
    const account = new Account(60);
    account.now = 120_000;
    const ends = account.now + 30_000;
    const external = (now: number) => ({ external: now < ends ? 40 : 0, externalEndsInMs: Math.max(0, ends - now) });
    account.saturate(29_000, external);
    expect(account.window.held(account.now)).toBeGreaterThanOrEqual(18);
    account.saturate(30_000, external);
    expect(longestPause(account.admissions)).toBeLessThanOrEqual(4 * 1_000);
  });

  test('says until when the next one has to wait', () => {
    const account = new Account(60);
    account.now = 120_000;
    account.most('paced');
    for (let i = 0; i < 50; i++) {
      account.now += account.waitMs();
      // The pace has been computed anew meanwhile.
      while (!account.admit('paced')) {
        expect(account.waitMs()).toBeLessThanOrEqual(100);
        account.now += Math.max(1, account.waitMs());
      }
    }
  });
});

function longestPause(times: readonly number[]): number {
  return Math.max(...times.slice(1).map((at, i) => at - (times[i] as number)));
}

const phase = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('idle' as const), ms: fc.integer({ min: 100, max: 70_000 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('busy' as const), ms: fc.integer({ min: 100, max: 40_000 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('burst' as const), ms: fc.integer({ min: 1, max: 60 }) }) },
);

/** Admissions that are made up for leave few slots for the time until the first ones expire. */
const MADE_UP_FOR = [
  { kind: 'busy' as const, ms: 42_200 },
  { kind: 'burst' as const, ms: 8 },
  { kind: 'idle' as const, ms: 5_446 },
];

test.each([[60], [235]])(
  'whatever came before, requests that wait never meet a standstill, and use the ceiling of %i',
  (ceiling) => {
    fc.assert(
      fc.property(fc.array(phase, { maxLength: 8 }), fc.integer({ min: 0, max: 1_000 }), (phases, latencyMs) => {
        const account = new Account(ceiling, latencyMs);
        for (const { kind, ms } of phases) {
          if (kind === 'idle') account.now += ms;
          else if (kind === 'busy') account.saturate(ms);
          else for (let i = 0; i < ms && account.admit('burst'); i++);
        }
        const before = account.admissions.length;
        const from = account.now;
        account.saturate(180_000);
        const times = [from, ...account.admissions.slice(before), account.now];
        expect(longestPause(times)).toBeLessThanOrEqual((4 * 60_000) / ceiling);
        const used = times.filter((at) => at > from + 61_000).length / (119_000 / 60_000);
        // A slot is held for the latency as well, and one may be missed at the beginning or end.
        expect(used).toBeGreaterThanOrEqual((ceiling * 0.985 * 60_000) / (60_000 + latencyMs) - 0.5);
      }),
      { numRuns: 40, examples: [[MADE_UP_FOR, 0]] },
    );
  },
);
