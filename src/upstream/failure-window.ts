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

/** Buckets of a window. An attempt leaves the count up to a tenth of the window early. */
const BUCKETS = 10;
/** Tenants and resources that a bucket tells apart; callers can invent resources. Further ones count as one. */
const MAX_SOURCES = 50;
/** Their name: no tenant and no resource has it. */
export const FURTHER = '';

type Tallies = Map<string, { attempts: number; failures: number }>;

interface Bucket {
  attempts: number;
  failures: number;
  readonly byTenant: Tallies;
  readonly byResource: Tallies;
}

/** Counts attempts and failures in a sliding window, in bounded memory. */
export class FailureWindow {
  readonly #bucketMs: number;
  readonly #buckets: readonly Bucket[] = Array.from({ length: BUCKETS }, () => ({
    ...{ attempts: 0, failures: 0, byTenant: new Map(), byResource: new Map() },
  }));
  /** Number of the current bucket, counted from zero of the clock. */
  #current = Number.NEGATIVE_INFINITY;

  constructor(windowMs: number) {
    this.#bucketMs = windowMs / BUCKETS;
  }

  add({ tenant, resource }: Source, failed: boolean, now: MonotonicMs): void {
    const bucket = this.#buckets[this.#moveTo(now) % BUCKETS] as Bucket;
    bucket.attempts += 1;
    bucket.failures += failed ? 1 : 0;
    count(bucket.byTenant, tenant, failed);
    count(bucket.byResource, resource, failed);
  }

  /** All attempts, without their sources: costs little. */
  total(now: MonotonicMs): Tally {
    this.#moveTo(now);
    let [attempts, failures] = [0, 0];
    for (const bucket of this.#buckets) {
      attempts += bucket.attempts;
      failures += bucket.failures;
    }
    return { attempts, failures };
  }

  read(now: MonotonicMs): Attempts {
    const byTenant: Tallies = new Map();
    const byResource: Tallies = new Map();
    const total = this.total(now);
    for (const bucket of this.#buckets) {
      merge(byTenant, bucket.byTenant);
      merge(byResource, bucket.byResource);
    }
    return { ...total, byTenant, byResource };
  }

  /** Leaves only the successes. */
  forgetFailures(): void {
    for (const bucket of this.#buckets) {
      bucket.attempts -= bucket.failures;
      bucket.failures = 0;
      for (const tallies of [bucket.byTenant, bucket.byResource]) {
        for (const [name, tally] of tallies) {
          tally.attempts -= tally.failures;
          tally.failures = 0;
          if (tally.attempts === 0) tallies.delete(name);
        }
      }
    }
  }

  clear(): void {
    for (const bucket of this.#buckets) empty(bucket);
  }

  /** Empties the buckets that have left the window. */
  #moveTo(now: MonotonicMs): number {
    const bucket = Math.floor(now / this.#bucketMs);
    if (bucket <= this.#current) return this.#current;
    if (bucket - this.#current >= BUCKETS) this.clear();
    else for (let each = this.#current + 1; each <= bucket; each += 1) empty(this.#buckets[each % BUCKETS] as Bucket);
    this.#current = bucket;
    return bucket;
  }
}

function count(tallies: Tallies, name: string, failed: boolean): void {
  const known = tallies.has(name) || tallies.size < MAX_SOURCES ? name : FURTHER;
  add(tallies, known, 1, failed ? 1 : 0);
}

function merge(into: Tallies, from: Tallies): void {
  for (const [name, { attempts, failures }] of from) add(into, name, attempts, failures);
}

function add(tallies: Tallies, name: string, attempts: number, failures: number): void {
  const tally = tallies.get(name);
  if (tally === undefined) tallies.set(name, { attempts, failures });
  else {
    tally.attempts += attempts;
    tally.failures += failures;
  }
}

function empty(bucket: Bucket): void {
  bucket.attempts = 0;
  bucket.failures = 0;
  bucket.byTenant.clear();
  bucket.byResource.clear();
}
