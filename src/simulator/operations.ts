import type { Clock } from '../clock.ts';
import type { Contracts } from './contracts.ts';
import { message, type Result } from './result.ts';
import type { Switches } from './switches.ts';

/** The operations of an account in the calendar month that runs. */
export interface OperationsUsed {
  /** `2026-11`, in the time zone of the switch. */
  readonly month: string;
  readonly used: number;
  /** Starts and retries rejected because the operations were used up. */
  readonly rejected: number;
}

/**
 * Counts operations: the API call that starts a flow, and each connector request of its run. Reads cost none. No response of
 * the Core API shows the count; the dashboard shows it the day after.
 */
export class Operations {
  readonly #clock: Clock;
  readonly #switches: Switches;
  readonly #contracts: Contracts;
  /** By account and month: a clock that is set back finds the count of that month. */
  readonly #counts = new Map<string, { used: number; rejected: number }>();
  #format: { readonly timeZone: string; readonly of: Intl.DateTimeFormat } | null = null;

  constructor(clock: Clock, switches: Switches, contracts: Contracts) {
    this.#clock = clock;
    this.#switches = switches;
    this.#contracts = contracts;
  }

  /**
   * Counts a run at its start, though Patchworks counts connector requests as they happen. `calls` is 1 for an API call as first
   * step, else 0. Returns the rejection, or null if the run may start. The last start may exceed the allowance: Patchworks
   * cannot know the connector requests of a run before it.
   */
  charge(account: string, calls: 0 | 1): Result | null {
    const { connectorRequests, operationsUsedUp } = this.#switches;
    const cost = calls + connectorRequests;
    const count = this.#countOf(account);
    if (cost > 0 && operationsUsedUp !== 'accept' && count.used >= this.#contracts.of(account).operations) {
      count.rejected += 1;
      return message(operationsUsedUp, 'The operations of this month are used up.');
    }
    count.used += cost;
    return null;
  }

  /** Counts operations of others, such as webhooks and schedules. */
  use(account: string, count: number): void {
    this.#countOf(account).used += count;
  }

  usedBy(account: string): OperationsUsed {
    return { month: this.#month(), ...this.#countOf(account) };
  }

  #countOf(account: string): { used: number; rejected: number } {
    const key = `${this.#month()} ${account}`;
    const known = this.#counts.get(key);
    if (known !== undefined) return known;
    const count = { used: 0, rejected: 0 };
    this.#counts.set(key, count);
    return count;
  }

  #month(): string {
    const { operationsTimeZone: timeZone } = this.#switches;
    // A format takes long to construct, and benchmarks start flows.
    if (this.#format?.timeZone !== timeZone) {
      const of = new Intl.DateTimeFormat('en', { calendar: 'gregory', timeZone, year: 'numeric', month: '2-digit' });
      this.#format = { timeZone, of };
    }
    const parts = this.#format.of.formatToParts(this.#clock.now());
    const part = (type: 'year' | 'month') => parts.find((each) => each.type === type)?.value;
    return `${part('year')}-${part('month')}`;
  }
}
