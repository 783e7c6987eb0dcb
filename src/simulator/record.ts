/** One request as it arrived; what tests judge the gateway by. */
export interface Arrival {
  readonly at: number;
  readonly monotonic: number;
  readonly method: string;
  readonly target: string;
  readonly headers: readonly string[];
  /** Set when the body has been read. */
  bodyBytes: number;
  bodySha256: string | null;
  credential: string | null;
  counted: boolean;
  /** Null while it is being answered. */
  status: number | null;
  /** The caller closed the connection before the answer was complete. */
  aborted: boolean;
  finishedAt: number | null;
}

export interface Stats {
  readonly arrived: number;
  readonly counted: number;
  readonly throttled: number;
  readonly unauthenticated: number;
  /** The greatest number of requests that arrived within any 60 s, 401s included. */
  readonly greatestIn60s: number;
}

const MINUTE = 60_000;

/** Remembers the latest arrivals, and counts all. */
export class Recorder {
  readonly #size: number;
  #arrivals: Arrival[] = [];
  #recent: number[] = [];
  #recentHead = 0;
  #counts = { arrived: 0, counted: 0, throttled: 0, unauthenticated: 0, greatestIn60s: 0 };

  constructor(size: number) {
    this.#size = size;
  }

  add(arrival: Arrival): void {
    if (this.#arrivals.length >= this.#size * 2) this.#arrivals = this.#arrivals.slice(-this.#size);
    this.#arrivals.push(arrival);
    this.#counts.arrived += 1;
    this.#recent.push(arrival.monotonic);
    // A request exactly 60 s old is outside: windows are half open.
    while ((this.#recent[this.#recentHead] as number) <= arrival.monotonic - MINUTE) this.#recentHead += 1;
    if (this.#recentHead > 4096) {
      this.#recent = this.#recent.slice(this.#recentHead);
      this.#recentHead = 0;
    }
    this.#counts.greatestIn60s = Math.max(this.#counts.greatestIn60s, this.#recent.length - this.#recentHead);
  }

  note(what: 'counted' | 'throttled' | 'unauthenticated'): void {
    this.#counts[what] += 1;
  }

  arrivals(): readonly Arrival[] {
    return this.#arrivals.slice(-this.#size);
  }

  stats(): Stats {
    return { ...this.#counts };
  }

  reset(): void {
    this.#arrivals = [];
    this.#recent = [];
    this.#recentHead = 0;
    this.#counts = { arrived: 0, counted: 0, throttled: 0, unauthenticated: 0, greatestIn60s: 0 };
  }
}
