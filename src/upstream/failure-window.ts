import type { MonotonicMs } from '../clock.ts';

export interface Tally {
  readonly attempts: number;
  readonly failures: number;
}

/** Attempts in a window: all, and by their source. */
export interface Attempts extends Tally {
  readonly byTenant: ReadonlyMap<string, Tally>;
  readonly byResource: ReadonlyMap<string, Tally>;
}

/** Where an attempt came from and what it asked for. */
export interface Source {
  readonly tenant: string;
  readonly resource: string;
}

/** Only the latest count: they say enough about an upstream. Callers can invent resources, so memory has a bound. */
export const MAX_ATTEMPTS = 1_000;

interface Attempt extends Source {
  readonly at: MonotonicMs;
  readonly failed: boolean;
}

/** The attempts of a sliding window, in bounded memory. */
export class FailureWindow {
  readonly #windowMs: number;
  #attempts: Attempt[] = [];

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  add({ tenant, resource }: Source, failed: boolean, now: MonotonicMs): void {
    this.#expire(now);
    if (this.#attempts.length === MAX_ATTEMPTS) this.#attempts.shift();
    this.#attempts.push({ tenant, resource, failed, at: now });
  }

  read(now: MonotonicMs): Attempts {
    this.#expire(now);
    const all = { attempts: 0, failures: 0 };
    const byTenant = new Map<string, typeof all>();
    const byResource = new Map<string, typeof all>();
    for (const { tenant, resource, failed } of this.#attempts) {
      for (const tally of [all, tallyIn(byTenant, tenant), tallyIn(byResource, resource)]) {
        tally.attempts += 1;
        tally.failures += failed ? 1 : 0;
      }
    }
    return { ...all, byTenant, byResource };
  }

  /** Leaves only the successes. */
  forgetFailures(): void {
    this.#attempts = this.#attempts.filter(({ failed }) => !failed);
  }

  clear(): void {
    this.#attempts = [];
  }

  #expire(now: MonotonicMs): void {
    const kept = this.#attempts.findIndex(({ at }) => at > now - this.#windowMs);
    if (kept !== 0) this.#attempts.splice(0, kept === -1 ? this.#attempts.length : kept);
  }
}

function tallyIn(tallies: Map<string, { attempts: number; failures: number }>, name: string) {
  const tally = tallies.get(name) ?? { attempts: 0, failures: 0 };
  tallies.set(name, tally);
  return tally;
}
