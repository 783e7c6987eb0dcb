import { SlidingMaximum } from './sliding.ts';

/** One request as it arrived; what tests judge the gateway by. */
export interface Arrival {
  /** Epoch milliseconds at which the request's headers arrived. */
  readonly at: number;
  /** The same on the monotonic clock. */
  readonly monotonic: number;
  readonly method: string;
  /** Raw, as on the request line. */
  readonly target: string;
  /** Raw: name, value, name, value. */
  readonly headers: readonly string[];
  /** So far; the whole where `bodySha256` is set. */
  bodyBytes: number;
  /** Set when the body has been read to its end; null without one. */
  bodySha256: string | null;
  account: string | null;
  credential: string | null;
  counted: boolean;
  /** Monotonic milliseconds of being counted: after the body. */
  countedAt: number | null;
  /** Of what was answered; null while it is not. */
  status: number | null;
  /** Kind of the fault that was played, or null. */
  fault: string | null;
  /** The caller closed the connection before the answer was complete. */
  aborted: boolean;
  /** Epoch milliseconds. */
  finishedAt: number | null;
}

export interface AccountStats {
  readonly counted: number;
  readonly throttled: number;
  /** The greatest number counted within any 60 s, exact; what others used is not in it. */
  readonly greatestCountedIn60s: number;
  /** Used by others. */
  readonly foreign: number;
}

export interface Stats {
  readonly arrived: number;
  readonly counted: number;
  readonly throttled: number;
  readonly unauthenticated: number;
  /** The greatest number of requests that arrived within any 60 s: all of them, uncounted ones included. */
  readonly greatestIn60s: number;
  readonly accounts: Readonly<Record<string, AccountStats>>;
}

const MINUTE_MS = 60_000;

interface AccountCounts {
  counted: number;
  throttled: number;
  foreign: number;
  readonly window: SlidingMaximum;
}

/** Remembers the latest arrivals in a ring, and counts all. */
export class Recorder {
  readonly #size: number;
  readonly #accountIds: readonly string[];
  #ring: Arrival[] = [];
  #next = 0;
  #arrived = 0;
  #unauthenticated = 0;
  #window = new SlidingMaximum(MINUTE_MS);
  #accounts = new Map<string, AccountCounts>();

  constructor(size: number, accountIds: Iterable<string>) {
    this.#size = size;
    this.#accountIds = [...accountIds];
    this.reset();
  }

  add(arrival: Arrival): void {
    this.#ring[this.#next] = arrival;
    this.#next = (this.#next + 1) % this.#size;
    this.#arrived += 1;
    this.#window.add(arrival.monotonic);
  }

  counted(account: string, monotonic: number): void {
    const counts = this.#accounts.get(account);
    if (counts === undefined) return;
    counts.counted += 1;
    counts.window.add(monotonic);
  }

  throttled(account: string): void {
    const counts = this.#accounts.get(account);
    if (counts !== undefined) counts.throttled += 1;
  }

  foreign(account: string, count: number): void {
    const counts = this.#accounts.get(account);
    if (counts !== undefined) counts.foreign += count;
  }

  unauthenticated(): void {
    this.#unauthenticated += 1;
  }

  /** Oldest first. */
  arrivals(): readonly Arrival[] {
    if (this.#ring.length < this.#size) return this.#ring.slice();
    return [...this.#ring.slice(this.#next), ...this.#ring.slice(0, this.#next)];
  }

  stats(): Stats {
    const accounts: Record<string, AccountStats> = {};
    let counted = 0;
    let throttled = 0;
    for (const [id, { window, ...counts }] of this.#accounts) {
      accounts[id] = { ...counts, greatestCountedIn60s: window.greatest };
      counted += counts.counted;
      throttled += counts.throttled;
    }
    const arrived = this.#arrived;
    const unauthenticated = this.#unauthenticated;
    return { arrived, counted, throttled, unauthenticated, greatestIn60s: this.#window.greatest, accounts };
  }

  reset(): void {
    this.#ring = [];
    this.#next = 0;
    this.#arrived = 0;
    this.#unauthenticated = 0;
    this.#window = new SlidingMaximum(MINUTE_MS);
    for (const id of this.#accountIds) {
      this.#accounts.set(id, { counted: 0, throttled: 0, foreign: 0, window: new SlidingMaximum(MINUTE_MS) });
    }
  }
}
