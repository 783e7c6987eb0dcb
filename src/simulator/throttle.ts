import type { Clock } from '../clock.ts';
import type { Switches } from './switches.ts';

interface ThrottleResult {
  readonly rejected: boolean;
  /** The limit headers of the response. */
  readonly headers: readonly string[];
}

interface Window {
  /** Monotonic, so that a step of the wall clock does not change a window. */
  readonly openedAt: number;
  /** Unix seconds of its end as the application stores them, without the fraction of the opening. */
  readonly endsAtSecond: number;
  count: number;
}

/**
 * The limiter of the Laravel application: a fixed window that the first counted request opens, neither sliding nor aligned
 * to the clock. A request above the limit is rejected and not counted.
 */
export class Throttle {
  readonly #clock: Clock;
  readonly #switches: Switches;
  readonly #windows = new Map<string, Window>();
  readonly #foreignWindows = new Map<string, Window>();

  constructor(clock: Clock, switches: Switches) {
    this.#clock = clock;
    this.#switches = switches;
  }

  /** Counts a request in a scope: an account or a credential. */
  hit(scope: string, limit: number): ThrottleResult {
    const window = this.#windowOf(scope, this.#windows);
    if (window.count >= limit) return { rejected: true, headers: this.#rejectionHeaders(window, limit) };
    window.count += 1;
    return { rejected: false, headers: this.#acceptedHeaders(scope, window, limit) };
  }

  /** Counts up to `count` requests of others; returns how many were left. */
  use(scope: string, limit: number, count: number): number {
    const window = this.#windowOf(scope, this.#windows);
    const used = Math.max(0, Math.min(count, limit - window.count));
    window.count += used;
    return used;
  }

  #windowOf(scope: string, windows: Map<string, Window>): Window {
    const now = this.#clock.monotonic();
    const { windowMs } = this.#switches;
    const open = windows.get(scope);
    if (open !== undefined && now - open.openedAt < windowMs) return open;
    const endsAtSecond = unixSecond(this.#clock) + Math.floor(windowMs / 1000);
    const opened = { openedAt: now, endsAtSecond, count: 0 };
    windows.set(scope, opened);
    return opened;
  }

  #acceptedHeaders(scope: string, window: Window, limit: number): string[] {
    const { limitHeaders } = this.#switches;
    if (limitHeaders.kind === 'none') return [];
    if (limitHeaders.kind === 'own') return limitFields(limit, limit - window.count);
    const foreign = this.#windowOf(scope, this.#foreignWindows);
    foreign.count += 1;
    return limitFields(limitHeaders.limit, Math.max(0, limitHeaders.limit - foreign.count));
  }

  /**
   * Laravel subtracts whole seconds (`InteractsWithTime::availableAt`). A window opened at x.9 s has "Retry-After: 0" in its
   * last 0.9 s although it still rejects, and one opened at x.1 s can have 60.
   */
  #rejectionHeaders(window: Window, limit: number): string[] {
    if (this.#switches.bareThrottle) return [];
    const now = unixSecond(this.#clock);
    const seconds = Math.max(0, window.endsAtSecond - now);
    const retryAfter = ['Retry-After', String(seconds)];
    if (this.#switches.limitHeaders.kind === 'none') return retryAfter;
    return [...limitFields(limit, 0), ...retryAfter, 'X-RateLimit-Reset', String(now + seconds)];
  }
}

function limitFields(limit: number, remaining: number): string[] {
  return ['X-RateLimit-Limit', String(limit), 'X-RateLimit-Remaining', String(remaining)];
}

function unixSecond(clock: Clock): number {
  return Math.floor(clock.now() / 1000);
}
