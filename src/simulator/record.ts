/** A request as it arrived: the evidence by which tests judge the gateway. */
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
  /** Bytes so far; the whole body if `bodySha256` is set. */
  bodyBytes: number;
  /** Set when the body has been read to its end; null without one. */
  bodySha256: string | null;
  account: string | null;
  credential: string | null;
  counted: boolean;
  /** Monotonic milliseconds at which it was counted, after its body. */
  countedAt: number | null;
  /** Null until the response begins. */
  status: number | null;
  /** The kind of its fault, or null. */
  fault: string | null;
  /** The caller closed the connection before the response was complete. */
  aborted: boolean;
  /** Epoch milliseconds. */
  finishedAt: number | null;
}

interface AccountStats {
  readonly counted: number;
  readonly throttled: number;
  /** The exact maximum of counted requests within any 60 s, without external usage. */
  readonly greatestCountedIn60s: number;
  /** Requests of others. */
  readonly external: number;
}

export interface Stats {
  readonly arrived: number;
  readonly counted: number;
  readonly throttled: number;
  readonly unauthenticated: number;
  /** The maximum of arrivals within any 60 s, counted or not. */
  readonly greatestIn60s: number;
  readonly accounts: Readonly<Record<string, AccountStats>>;
}

const MINUTE_MS = 60_000;

interface AccountCounts {
  counted: number;
  throttled: number;
  external: number;
  readonly window: SlidingMaximum;
}

/** Keeps the latest arrivals in a ring, and counts all. */
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

  external(account: string, count: number): void {
    const counts = this.#accounts.get(account);
    if (counts !== undefined) counts.external += count;
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
      this.#accounts.set(id, { counted: 0, throttled: 0, external: 0, window: new SlidingMaximum(MINUTE_MS) });
    }
  }
}

/**
 * The exact maximum of events within any span of time. The maximum is always reached in a span that ends with an event, so
 * it suffices to look back from each event. Spans are half open: an event exactly one span ago is outside.
 */
export class SlidingMaximum {
  readonly #spanMs: number;
  #times: number[] = [];
  #head = 0;
  #greatest = 0;

  constructor(spanMs: number) {
    this.#spanMs = spanMs;
  }

  /** Times must not go backwards. */
  add(atMs: number): void {
    this.#times.push(atMs);
    while ((this.#times[this.#head] ?? atMs) <= atMs - this.#spanMs) this.#head += 1;
    // Old times are removed when they are half of all: removing each alone would be quadratic.
    if (this.#head > 1024 && this.#head * 2 > this.#times.length) {
      this.#times = this.#times.slice(this.#head);
      this.#head = 0;
    }
    this.#greatest = Math.max(this.#greatest, this.#times.length - this.#head);
  }

  get greatest(): number {
    return this.#greatest;
  }
}
