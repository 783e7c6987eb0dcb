import { type Clock, every } from '../../../clock.ts';
import type { KeyedWrite, WriteOutcome } from '../../../idempotency/store.ts';

/** Others wait for the writes of this replica, see state.lua: an attempt that fails has time for three more. */
const CHECK_EVERY_MS = 500;
/** Entered at once. */
const MAX_AT_ONCE = 50;

interface ReentryOptions {
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

/** A server that takes over lacks the last moments: a second or two in a fail-over by command, in which the old one goes on. */
const RECENT_MS = 30_000;
/** Responses beyond are not entered again: their writes are, with the status alone. */
const MAX_RESPONSE_BYTES = 1024 * 1024;
/** Ended writes. An account with a ceiling of 240 a minute has some 120. */
const MAX_ENDED = 10_000;

type Ended = Exclude<WriteOutcome, { kind: 'released' }>;

interface RecentWrite {
  readonly write: KeyedWrite;
  /** By the monotonic clock, as the argument `now` of each function. */
  readonly leaseEnd: number;
  /** Null: it is in progress. */
  readonly outcome: Ended | null;
  readonly endedAt: number;
}

/** The keyed writes of one account that this replica has in progress, or has ended a moment ago. */
export class RecentWrites {
  /** By owner: the order is that of their last change. */
  readonly #writes = new Map<string, RecentWrite>();
  #ended = 0;
  #responseBytes = 0;

  get size(): number {
    return this.#writes.size;
  }

  all(): IterableIterator<RecentWrite> {
    return this.#writes.values();
  }

  begun(write: KeyedWrite, now: number): void {
    this.#set({ write, leaseEnd: now + write.leaseMs, outcome: null, endedAt: Number.POSITIVE_INFINITY });
  }

  ended(write: KeyedWrite, outcome: WriteOutcome, now: number): void {
    const before = this.#writes.get(write.owner);
    // A write that was never begun here is released after its begin had no reply.
    if (before === undefined) return;
    this.#remove(before);
    if (outcome.kind === 'released') return;
    this.#set({ ...before, outcome: this.#bounded(outcome), endedAt: now });
    if (this.#ended > MAX_ENDED) this.#removeOldestEnded();
  }

  /** Forgets the writes that any server has received by now. */
  forget(now: number): void {
    for (const each of this.#writes.values()) {
      if (now > Math.min(each.endedAt, each.leaseEnd) + RECENT_MS) this.#remove(each);
    }
  }

  #removeOldestEnded(): void {
    for (const each of this.#writes.values()) {
      if (each.outcome === null) continue;
      this.#remove(each);
      return;
    }
  }

  #bounded(outcome: Ended): Ended {
    if (this.#responseBytes + bytesOf(outcome) <= MAX_RESPONSE_BYTES) return outcome;
    return outcome.kind === 'unknown' ? outcome : withoutBody(outcome);
  }

  #set(write: RecentWrite): void {
    this.#writes.set(write.write.owner, write);
    this.#count(write, 1);
  }

  #remove(write: RecentWrite): void {
    this.#writes.delete(write.write.owner);
    this.#count(write, -1);
  }

  #count({ outcome }: RecentWrite, sign: 1 | -1): void {
    if (outcome === null) return;
    this.#ended += sign;
    this.#responseBytes += sign * bytesOf(outcome);
  }
}

function bytesOf(outcome: Ended): number {
  if (outcome.kind === 'unknown') return 0;
  const { headers, body } = outcome.response;
  return headers.reduce((sum, item) => sum + item.length, body?.length ?? 0);
}

/** A repeat gets the status alone: the headers mean nothing without the body. */
function withoutBody({ kind, response: { status } }: Extract<Ended, { kind: 'completed' }>): Ended {
  return { kind, response: { status, headers: [], body: null } };
}
