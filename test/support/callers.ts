import { type AdmissionQueue, createAdmissionQueue } from '../../src/quota/admission-queue.ts';
import type { Admission, AdvertisedLimit, QuotaStore } from '../../src/quota/quota-store.ts';
import { rejectAdmission } from '../../src/quota/rate-limit.ts';
import type { ManualClock } from './manual-clock.ts';
import { seededRandom, Upstream } from './quota-simulation.ts';

/** Replicas whose time a test moves. */
export interface Scene {
  readonly clock: ManualClock;
  /** By replica. */
  readonly stores: readonly QuotaStore[];
  /** Until all decisions are here. */
  settle(): Promise<void>;
}

export interface CallersOptions {
  readonly limit: number;
  readonly seed?: number;
  /** Responses carry the limit of the upstream. Default: true. */
  readonly headers?: boolean;
  /** Other headers than those that the upstream's count makes. */
  readonly tells?: (seen: AdvertisedLimit) => AdvertisedLimit;
  /** The mean of each way, beside 2 ms. */
  readonly latencyMs?: number;
  /** The requests of other callers count too. */
  readonly upstream?: Upstream;
}

interface Attempt {
  readonly at: number;
  /** From its arrival until the decision. */
  readonly waitedMs: number;
  readonly served: boolean;
}

/** Responses that the callers of one tenant have received. */
export class Seen {
  readonly attempts: Attempt[] = [];
  /** Attempts for each response, of callers that come back until they have one. */
  readonly needed: number[] = [];

  get served(): number {
    return this.attempts.filter(({ served }) => served).length;
  }

  get refused(): number {
    return this.attempts.length - this.served;
  }

  /** @param part of the attempts, 0 to 1, that waited no longer */
  waitedMs(part: number): number {
    return atPart(
      this.attempts.map(({ waitedMs }) => waitedMs),
      part,
    );
  }

  /** The part of the responses that took no more than two attempts. */
  get bySecondAttempt(): number {
    return this.needed.filter((attempts) => attempts <= 2).length / this.needed.length;
  }
}

const CONNECTED = { happened: false, onDisconnect: () => () => {} };

/** Callers of a gateway as they are in the field, in front of the admission queue, and an upstream behind it. */
export class Callers {
  readonly upstream: Upstream;
  readonly #scene: Scene;
  readonly #options: CallersOptions;
  readonly #queues: readonly AdmissionQueue[];
  readonly #random: () => number;
  #admissions: number[] = [];
  #seen = new Map<string, Seen>();
  #closed = false;

  constructor(scene: Scene, options: CallersOptions) {
    this.#scene = scene;
    this.#options = options;
    this.#random = seededRandom(options.seed ?? 1);
    this.upstream = options.upstream ?? new Upstream(options.limit);
    const { clock } = scene;
    this.#queues = scene.stores.map((quotaStore) => createAdmissionQueue({ quotaStore, clock }));
  }

  /** When requests were admitted, since {@link forget}. */
  get admissions(): readonly number[] {
    return this.#admissions;
  }

  /** Callers that send the next request as soon as they have a response, and come back at Retry-After. */
  closedLoop(tenant: string, callers: number, maxWaitMs = 5_000): void {
    for (let i = 0; i < callers; i++) void this.#call(tenant, maxWaitMs);
  }

  /** Requests at random times, whatever becomes of them. */
  openLoop(tenant: string, perMinute: number, maxWaitMs = 5_000): void {
    const next = (): void => {
      if (this.#closed) return;
      void this.#send(tenant, maxWaitMs);
      this.#after(-Math.log(1 - this.#random()) * (60_000 / perMinute), next);
    };
    this.#after(this.#random() * 1_000, next);
  }

  /** A request every so often. */
  steadily(tenant: string, everyMs: number, maxWaitMs = 5_000): void {
    const next = (): void => {
      if (this.#closed) return;
      void this.#send(tenant, maxWaitMs);
      this.#after(everyMs, next);
    };
    this.#after(this.#random() * everyMs, next);
  }

  /** All at once. */
  burst(tenant: string, requests: number, maxWaitMs = 0): void {
    for (let i = 0; i < requests; i++) void this.#send(tenant, maxWaitMs);
  }

  /** From one event to the next, as a fixed step would make the pauses coarse. */
  async pass(ms: number): Promise<void> {
    const { clock, settle } = this.#scene;
    const end = clock.monotonic() + ms;
    await settle();
    while (clock.monotonic() < end) {
      clock.advance(Math.min(end, clock.nextDue()) - clock.monotonic());
      await settle();
    }
  }

  /** Forgets all counts. */
  forget(): void {
    this.#admissions = [];
    this.#seen = new Map();
  }

  /** No more requests. */
  stop(): void {
    this.#closed = true;
  }

  /** The gateway is killed: those that wait are lost, and what was sent is still on its way. */
  crash(): void {
    this.stop();
    for (const queue of this.#queues) queue.close();
  }

  seenBy(tenant: string): Seen {
    const seen = this.#seen.get(tenant) ?? new Seen();
    this.#seen.set(tenant, seen);
    return seen;
  }

  /** The longest time between two admissions, at the end included. */
  longestPauseMs(): number {
    return longestPauseMs([...this.#admissions, this.#scene.clock.monotonic()]);
  }

  async #call(tenant: string, maxWaitMs: number): Promise<void> {
    await this.#pause(this.#random() * 1_000);
    while (!this.#closed) {
      let attempts = 1;
      for (let told = await this.#send(tenant, maxWaitMs); told !== null; told = await this.#send(tenant, maxWaitMs)) {
        // Timers and ways take a moment; a caller is never early.
        await this.#pause(told * 1_000 + 5 + this.#random() * 20);
        if (this.#closed) return;
        attempts += 1;
      }
      this.seenBy(tenant).needed.push(attempts);
    }
  }

  /** @returns the Retry-After of a rejection, in seconds */
  async #send(tenant: string, maxWaitMs: number): Promise<number | null> {
    const { clock } = this.#scene;
    const at = clock.monotonic();
    const queue = this.#queues[Math.floor(this.#random() * this.#queues.length)] as AdmissionQueue;
    const admission = await queue.enter({ account: 'main', tenant, maxWaitMs, disconnect: CONNECTED });
    const waitedMs = clock.monotonic() - at;
    this.seenBy(tenant).attempts.push({ at, waitedMs, served: admission.kind === 'admitted' });
    if (admission.kind !== 'admitted') return rejectAdmission(admission, this.#random).retryAfterSeconds ?? 1;
    this.#admissions.push(clock.monotonic());
    await this.#respond(admission);
    return null;
  }

  async #respond({ slot }: Extract<Admission, { kind: 'admitted' }>): Promise<void> {
    const { headers = true, tells = headers ? asCounted : withoutHeaders, latencyMs = 40 } = this.#options;
    const oneWay = () => this.#pause(2 - Math.log(1 - this.#random()) * latencyMs);
    await oneWay();
    const seen = this.upstream.arrive(this.#scene.clock.monotonic());
    await oneWay();
    slot.complete(tells(seen));
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.#after(ms, resolve));
  }

  #after(ms: number, run: () => void): void {
    this.#scene.clock.after(ms, run);
  }
}

/** @param times ascending */
export function longestPauseMs(times: readonly number[]): number {
  return Math.max(...times.slice(1).map((at, i) => at - (times[i] as number)));
}

function asCounted(seen: AdvertisedLimit): AdvertisedLimit {
  return seen;
}

function withoutHeaders({ throttled }: AdvertisedLimit): AdvertisedLimit {
  return { limit: null, remaining: null, throttled };
}

function atPart(numbers: readonly number[], part: number): number {
  const ascending = [...numbers].sort((a, b) => a - b);
  return ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * part))] ?? 0;
}
