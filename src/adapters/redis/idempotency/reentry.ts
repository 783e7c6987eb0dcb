import { type Clock, every } from '../../../clock.ts';
import type { KeyedWrite, WriteOutcome } from '../../../idempotency/store.ts';
import { type RecentWrite, RecentWrites } from './recent-writes.ts';

/** Others wait for the writes of this replica, see state.lua: an attempt that fails has time for three more. */
const CHECK_EVERY_MS = 500;
/** Entered at once. */
const MAX_AT_ONCE = 50;

export interface ReentryOptions {
  readonly clock: Clock;
  readonly isReady: () => boolean;
  /** @returns the id of the state that the account is in now. Rejects if Redis does not reply. */
  readonly look: (account: string, known: string) => Promise<string>;
  /** Enters a write as it is now, unless the server knows it. Rejects if Redis does not reply. */
  readonly enter: (write: RecentWrite, known: string) => Promise<unknown>;
}

interface Account {
  readonly recent: RecentWrites;
  /** Id of the state (state.lua) that has all of the recent writes. */
  state: string;
  entering: Promise<void> | null;
}

/**
 * Enters the recent writes of this replica again where a server may not know them: it took over from another, was emptied, or is used
 * again after another.
 */
export class Reentry {
  readonly #options: ReentryOptions;
  readonly #accounts = new Map<string, Account>();
  /** Ends the checks. */
  readonly stop: () => void;

  constructor(options: ReentryOptions) {
    this.#options = options;
    this.stop = every(options.clock, CHECK_EVERY_MS, () => {
      for (const [account, { recent }] of this.#accounts) if (recent.size > 0) this.check(account);
    });
  }

  /** The id of the state that has the recent writes of this replica; empty if there are none. */
  known(account: string): string {
    const { recent, state } = this.#of(account);
    return recent.size > 0 ? state : '';
  }

  begun(write: KeyedWrite, state: string): void {
    const account = this.#of(write.account);
    if (account.recent.size === 0) account.state = state;
    account.recent.begun(write, this.#options.clock.monotonic());
  }

  ended(write: KeyedWrite, outcome: WriteOutcome): void {
    this.#of(write.account).recent.ended(write, outcome, this.#options.clock.monotonic());
  }

  /** Enters the writes if the account is in another state than before. */
  check(name: string): void {
    if (!this.#options.isReady()) return;
    const { recent } = this.#of(name);
    const now = this.#options.clock.monotonic();
    this.#options.look(name, this.known(name)).then(
      (state) => {
        // Writes that ended long before have arrived there. During an outage nothing is forgotten.
        if (state === this.#of(name).state) recent.forget(now);
        else void this.learn(name, state);
      },
      () => {},
    );
  }

  /** Resolves when this state has the writes of this replica, or they could not be entered: then the next check tries again. */
  async learn(name: string, state: string): Promise<void> {
    const account = this.#of(name);
    if (state === account.state) return;
    account.entering ??= this.#enterAll(name, account).finally(() => {
      account.entering = null;
    });
    await account.entering;
  }

  async #enterAll(name: string, account: Account): Promise<void> {
    const { look, enter } = this.#options;
    try {
      const state = await look(name, this.known(name));
      const entered = new Set<RecentWrite>();
      for (let left = this.#left(account, entered); left.length > 0; left = this.#left(account, entered)) {
        await Promise.all(left.map((each) => enter(each, this.known(name))));
        for (const each of left) entered.add(each);
        if ((await look(name, this.known(name))) !== state) return;
      }
      account.state = state;
    } catch {
      // The next check.
    }
  }

  /** Also those that have begun or ended meanwhile. The latest first: the others have most likely arrived. */
  #left({ recent }: Account, entered: ReadonlySet<RecentWrite>): RecentWrite[] {
    return [...recent.all()]
      .filter((each) => !entered.has(each))
      .slice(-MAX_AT_ONCE)
      .reverse();
  }

  #of(name: string): Account {
    const known = this.#accounts.get(name);
    if (known !== undefined) return known;
    const account = { recent: new RecentWrites(), state: '', entering: null };
    this.#accounts.set(name, account);
    return account;
  }
}
