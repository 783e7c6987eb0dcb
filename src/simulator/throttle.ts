import type { Clock } from '../clock.ts';
import type { Switches } from './options.ts';

export interface Verdict {
  readonly refused: boolean;
  /** Complete header list of limit fields for the answer. */
  readonly headers: string[];
}

/**
 * The limiter of the Laravel application, as its source has it: a fixed window that the first counted request opens,
 * neither sliding nor aligned to the clock. At or above the limit a request is refused and not counted.
 */
export class Throttle {
  readonly #clock: Clock;
  readonly #switches: Switches;
  readonly #windows = new Map<string, { opened: number; count: number }>();

  constructor(clock: Clock, switches: Switches) {
    this.#clock = clock;
    this.#switches = switches;
  }

  hit(scope: string, weight = 1): Verdict {
    const { limit, windowMs } = this.#switches;
    const now = this.#clock.monotonic();
    let window = this.#windows.get(scope);
    if (window === undefined || now - window.opened >= windowMs) {
      window = { opened: now, count: 0 };
      this.#windows.set(scope, window);
    }
    if (window.count >= limit) return { refused: true, headers: this.#refusal(window.opened + windowMs - now) };
    window.count = Math.min(limit, window.count + weight);
    const remaining = String(limit - window.count);
    return { refused: false, headers: ['X-RateLimit-Limit', String(limit), 'X-RateLimit-Remaining', remaining] };
  }

  #refusal(leftMs: number): string[] {
    if (this.#switches.bareThrottle) return [];
    // Whole seconds, cut off: 0 for the last one.
    const seconds = Math.floor(leftMs / 1000);
    return [
      'X-RateLimit-Limit',
      String(this.#switches.limit),
      'X-RateLimit-Remaining',
      '0',
      'Retry-After',
      String(seconds),
      'X-RateLimit-Reset',
      String(Math.floor(this.#clock.now() / 1000) + seconds),
    ];
  }
}
