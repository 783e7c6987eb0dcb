import type { Clock } from '../clock.ts';
import type { Switches } from './switches.ts';

export interface Verdict {
  readonly refused: boolean;
  /** Complete header list of limit fields for the answer. */
  readonly headers: readonly string[];
}

interface Window {
  /** Monotonic: a step of the wall clock neither opens nor closes a window. */
  readonly openedAt: number;
  /** Unix seconds at which it ends, as the application notes it: the fraction of the opening is lost. */
  readonly endsAtSecond: number;
  count: number;
}

/**
 * The limiter of the Laravel application, as its source has it: a fixed window that the first counted request opens,
 * neither sliding nor aligned to the clock. At or above the limit a request is refused and not counted.
 */
export class Throttle {
  readonly #clock: Clock;
  readonly #switches: Switches;
  readonly #windows = new Map<string, Window>();

  constructor(clock: Clock, switches: Switches) {
    this.#clock = clock;
    this.#switches = switches;
  }

  /** One request of a scope: an account, or a credential. */
  hit(scope: string, limit: number): Verdict {
    const window = this.#windowOf(scope);
    if (window.count >= limit) return { refused: true, headers: this.#refusal(window, limit) };
    window.count += 1;
    const remaining = String(limit - window.count);
    return { refused: false, headers: ['X-RateLimit-Limit', String(limit), 'X-RateLimit-Remaining', remaining] };
  }

  /** Others use up to `count` requests at once; returns how many were left to use. */
  use(scope: string, limit: number, count: number): number {
    const window = this.#windowOf(scope);
    const used = Math.max(0, Math.min(count, limit - window.count));
    window.count += used;
    return used;
  }

  #windowOf(scope: string): Window {
    const now = this.#clock.monotonic();
    const { windowMs } = this.#switches;
    const open = this.#windows.get(scope);
    if (open !== undefined && now - open.openedAt < windowMs) return open;
    const endsAtSecond = unixSecond(this.#clock) + Math.floor(windowMs / 1000);
    const opened = { openedAt: now, endsAtSecond, count: 0 };
    this.#windows.set(scope, opened);
    return opened;
  }

  /**
   * Laravel subtracts whole seconds (`InteractsWithTime::availableAt`): for a window opened at x.9 s the last 0.9 s say
   * `Retry-After: 0` although the window is still closed, and one opened at x.1 s may say 60.
   */
  #refusal(window: Window, limit: number): string[] {
    if (this.#switches.bareThrottle) return [];
    const now = unixSecond(this.#clock);
    const seconds = Math.max(0, window.endsAtSecond - now);
    return [
      'X-RateLimit-Limit',
      String(limit),
      'X-RateLimit-Remaining',
      '0',
      'Retry-After',
      String(seconds),
      'X-RateLimit-Reset',
      String(now + seconds),
    ];
  }
}

function unixSecond(clock: Clock): number {
  return Math.floor(clock.now() / 1000);
}
