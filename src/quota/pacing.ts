import type { LeaseWindow } from './lease-window.ts';
import { WINDOW_MS } from './lease-window.ts';

/** The pace is computed anew at most this often. */
const RECOMPUTE_MS = 100;
/** So many expiries are looked at, however many slots there are. */
const SAMPLES = 240;
/** Admissions that come late are made up for, up to so many at once. */
export const MAX_CARRY = 4;
/** The slowest pace while slots are free, as a part of the ceiling's own: no pause is longer than four slot intervals. */
const SLOWEST = 1 / 4;
/** A burst leaves at least this part of the ceiling's pace to those who come after it. */
const AFTER_BURST = 1 / 2;

/** The state of the account from which the pace is computed. */
interface PaceInput {
  /** Slots of the ceiling that may be used here at all. */
  readonly usable: number;
  /** Slots that may be given out now; may be negative. */
  readonly free: number;
  /** External usage, and until when it stands. */
  readonly external: number;
  readonly externalEndsInMs: number;
  readonly window: Pick<LeaseWindow, 'completed' | 'expiryAt'>;
}

/**
 * Spreads admissions over time so that the window never runs dry: the pace is the largest constant rate r for which
 * r·τ ≤ free slots + slots that expire within τ, for each τ up to 60 s. It takes no part in the ceiling's guarantee: a slot
 * must be free as well. A burst beyond the pace is for accounts that were idle (the account's bucket in account.ts), and
 * ends where it would leave less than half of the ceiling's pace to the requests after it.
 *
 * slot-supply.lua does the same.
 */
export class Pacing {
  /** Admissions are paid for up to this time. */
  #paidUntil: number;
  /** Slots a millisecond. */
  #rate = 0;
  /** Slots that a burst may take. */
  #headroom = 0;
  #computedAt = Number.NEGATIVE_INFINITY;

  constructor(now: number) {
    this.#paidUntil = now - WINDOW_MS;
  }

  update(input: PaceInput, now: number): void {
    if (now - this.#computedAt < RECOMPUTE_MS) return;
    this.#computedAt = now;
    const { usable, free, external, externalEndsInMs, window } = input;
    const perMs = Math.max(1, usable) / WINDOW_MS;
    const afterBurst = (Math.max(1, usable - external) / WINDOW_MS) * AFTER_BURST;
    let rate = perMs;
    let headroom = Number.POSITIVE_INFINITY;
    // Admissions that are late are made up for at once: the pace has been running since the latest one was due.
    const lateMs = Math.max(0, Math.min(now - this.#paidUntil, MAX_CARRY / perMs) - 1 / perMs);
    const constrain = (slots: number, ms: number): void => {
      rate = Math.min(rate, slots / Math.min(ms + lateMs, WINDOW_MS));
      headroom = Math.min(headroom, slots - afterBurst * ms);
    };
    const stride = Math.max(1, Math.ceil(window.completed / SAMPLES));
    let within = window.completed;
    for (let i = 0; i < window.completed; i += stride) {
      const ms = Math.max(1, window.expiryAt(i) - now);
      if (ms > WINDOW_MS) {
        // Slots of a replica that is gone are held for longer.
        within = i;
        break;
      }
      constrain(free + i + 1 + (externalEndsInMs <= ms ? external : 0), ms);
    }
    if (external > 0) constrain(free, Math.max(1, externalEndsInMs));
    constrain(free + within + external, WINDOW_MS);
    this.#rate = Math.max(rate, perMs * SLOWEST);
    this.#headroom = headroom;
  }

  /** Requests that may be admitted now at this pace. @param keptBack a part of a slot that is left to others */
  available(now: number, keptBack: number): number {
    return Math.max(0, Math.floor(Math.min(MAX_CARRY, (now - this.#paidUntil) * this.#rate) - keptBack));
  }

  /** Requests that a burst may take beyond the pace. */
  get headroom(): number {
    return Math.max(0, Math.floor(this.#headroom));
  }

  /** Until so many have been admitted at this pace. */
  waitMs(places: number, now: number): number {
    return Math.max(0, Math.ceil(this.#paidUntil + places / this.#rate - now));
  }

  admitted(now: number): void {
    const interval = 1 / this.#rate;
    this.#paidUntil = Math.min(Math.max(this.#paidUntil, now - MAX_CARRY * interval) + interval, now);
    this.#headroom -= 1;
  }

  /** The latest admission did not take place. */
  refund(): void {
    this.#paidUntil -= 1 / this.#rate;
    this.#headroom += 1;
  }

  /** The quota, or external usage, has changed. */
  reset(): void {
    this.#computedAt = Number.NEGATIVE_INFINITY;
  }
}
