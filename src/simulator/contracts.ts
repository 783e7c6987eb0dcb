import type { Switches } from './switches.ts';
import { CONCURRENT_RUNS, checkedTerms, type Terms, TIERS, type Tier } from './terms.ts';

/** The terms in force. */
interface TermsInForce {
  readonly tier: Tier;
  readonly limit: number;
  readonly operations: number;
}

/** The terms of each account. They can change while the simulator runs. */
export class Contracts {
  readonly #switches: Switches;
  readonly #terms: Map<string, Terms>;

  constructor(switches: Switches, accounts: ReadonlyMap<string, Terms>) {
    this.#switches = switches;
    this.#terms = new Map(accounts);
  }

  limitOf(account: string): number {
    return this.#terms.get(account)?.limit ?? this.#switches.limit;
  }

  of(account: string): TermsInForce {
    const own = this.#terms.get(account) ?? {};
    const { tier, operations } = this.#switches;
    const allowed = own.operations ?? (own.tier ? TIERS[own.tier] : (operations ?? TIERS[tier]));
    return { tier: own.tier ?? tier, limit: this.limitOf(account), operations: allowed };
  }

  concurrentRunsOf(account: string): number {
    return this.#switches.concurrentRuns ?? CONCURRENT_RUNS[this.of(account).tier];
  }

  /** Throws a TypeError that names the wrong term, and then changes nothing. */
  change(account: string, changed: object): void {
    this.#terms.set(account, { ...this.#terms.get(account), ...checkedTerms(changed) });
  }
}
