import { Readable } from 'node:stream';
import type { Clock, MonotonicMs, Random } from '../clock.ts';
import {
  type ClientDisconnect,
  extend,
  type Middleware,
  onTimeoutOrDisconnect,
  type Rejection,
  reject,
} from '../context.ts';
import type { Admission, Slot } from '../quota/quota-store.ts';
import { rejectAdmission, retryAfterSeconds, type WithSlot } from '../quota/rate-limit.ts';
import type { Routed } from '../routing/match-route.ts';

export interface WithPermit {
  readonly sending: {
    readonly slot: Slot;
    readonly permit: Permit;
    /** For another attempt of the request: gives the permit back, then waits for slot and permit like the first attempt. */
    readonly reacquire: (maxWaitMs: number, disconnect: ClientDisconnect) => Promise<Acquired>;
  };
}

interface LimitedContext extends Routed, WithSlot {
  readonly tenant: PermitHolder;
  readonly upstreamState: { readonly concurrency: ConcurrencyLimit };
}

interface ConcurrencyLimitOptions {
  readonly clock: Clock;
  readonly random: Random;
}

type Acquired = { readonly kind: 'acquired'; readonly permit: Permit; readonly slot: Slot } | Rejection;

/** Responses arrive at unknown times, and most within a second. */
const RETRY_AFTER_MS = 1_000;
/** A longer queue would only delay rejections, and each waiting request holds a connection and a body. */
const MAX_WAITING = 1_000;

/**
 * Keeps the requests in flight to an upstream below its `maxInFlight`, and those of one tenant below its own. A request holds slot and
 * permit together or neither: with a slot alone, a slow upstream would use up the account; with a permit alone, a tenant without tokens
 * would hold all permits.
 */
export function concurrencyLimit<E extends LimitedContext>(
  options: ConcurrencyLimitOptions,
): Middleware<E, E & WithPermit> {
  return (next) => async (context) => {
    const { slot, waitUntil } = context.quota;
    const admitted: Admission = { kind: 'admitted', slot, waitedMs: 0 };
    const acquired = await acquirePermit(options, context, waitUntil, context.disconnect, admitted);
    if (acquired.kind === 'rejection') return acquired;
    let { permit } = acquired;
    const reacquire = async (maxWaitMs: number, disconnect: ClientDisconnect): Promise<Acquired> => {
      permit.release();
      const until = (options.clock.monotonic() + maxWaitMs) as MonotonicMs;
      const admission = await context.quota.requeue(maxWaitMs, disconnect);
      const again = await acquirePermit(options, context, until, disconnect, admission);
      if (again.kind === 'acquired') permit = again.permit;
      return again;
    };
    try {
      return await next(extend(context, { sending: { permit, slot: acquired.slot, reacquire } }));
    } finally {
      permit.releaseUnlessHeld();
    }
  };
}

/** A permit for an admitted request. It gives its slot back while it waits for the permit. */
async function acquirePermit(
  { clock, random }: ConcurrencyLimitOptions,
  { quota: { requeue }, record, trace, tenant, upstreamState: { concurrency: limit } }: LimitedContext,
  waitUntil: MonotonicMs,
  disconnect: ClientDisconnect,
  first: Admission,
): Promise<Acquired> {
  const remainingMs = (): number => Math.max(0, waitUntil - clock.monotonic());
  for (let admission = first; ; admission = await requeue(remainingMs(), disconnect)) {
    if (admission.kind !== 'admitted') return rejectAdmission(admission, random);
    const free = limit.tryAcquire(tenant);
    if (free !== null) return { kind: 'acquired', permit: free, slot: admission.slot };
    admission.slot.refund();
    const since = clock.monotonic();
    const span = trace?.start('wait') ?? null;
    const permit = await limit.acquire(tenant, remainingMs(), disconnect);
    span?.end({ decision: typeof permit === 'string' ? permit : 'admitted' });
    record.waitMs += clock.monotonic() - since;
    if (typeof permit === 'string') return rejectWaiting(permit, random);
    // Other requests may have taken the slot that this one gave back.
    const atOnce = await requeue(0, disconnect);
    if (atOnce.kind === 'admitted') return { kind: 'acquired', permit, slot: atOnce.slot };
    permit.release();
    if (atOnce.kind !== 'rejected' || remainingMs() === 0) return rejectAdmission(atOnce, random);
  }
}

function rejectWaiting(reason: Exclude<AcquireResult, Permit>, random: Random): Rejection {
  switch (reason) {
    case 'disconnected':
      return reject('client_closed', { internal: 'client disconnected while waiting for a permit' });
    case 'closed':
      return reject('draining', { retryAfterSeconds: 1 });
    case 'timeout':
      return reject('queue_timeout', {
        detail: 'The gateway has as many requests in flight to Patchworks as it is allowed to have.',
        retryAfterSeconds: retryAfterSeconds(RETRY_AFTER_MS, random),
        internal: 'maxInFlight',
      });
  }
}

/** `timeout`: the wait is over, or the queue is full. `closed`: the gateway drains. */
export type AcquireResult = Permit | 'disconnected' | 'timeout' | 'closed';

export interface PermitHolder {
  readonly id: string;
  /** Most permits that it may hold; null: half of all. */
  readonly maxInFlight: number | null;
}

interface Waiter {
  readonly holder: PermitHolder;
  readonly end: (result: AcquireResult) => void;
}

interface Use {
  inFlight: number;
  waiting: number;
}

/**
 * The permits of one upstream. Requests without a permit wait in order of arrival; those of a tenant that holds as many as it may are
 * passed over. So slow responses of one tenant leave permits to the others.
 */
export class ConcurrencyLimit {
  #maxInFlight: number;
  readonly #clock: Clock;
  #inFlight = 0;
  readonly #waiters = new Set<Waiter>();
  /** By tenant, while it holds or waits for a permit. */
  readonly #uses = new Map<string, Use>();
  #closed = false;

  constructor(maxInFlight: number, clock: Clock) {
    this.#maxInFlight = maxInFlight;
    this.#clock = clock;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  /** A lower limit takes effect as permits are released: no request in flight is aborted. */
  resize(maxInFlight: number): void {
    this.#maxInFlight = maxInFlight;
    this.#grantWaiting();
  }

  /** Null: no permit is free for this tenant. A waiter that could have it would have it already. */
  tryAcquire(holder: PermitHolder): Permit | null {
    return this.#isFreeFor(holder) ? this.#grant(holder) : null;
  }

  acquire(holder: PermitHolder, maxWaitMs: number, disconnect: ClientDisconnect): Promise<AcquireResult> {
    if (this.#closed) return Promise.resolve('closed');
    if (disconnect.happened) return Promise.resolve('disconnected');
    const { id } = holder;
    // A tenant may wait in as many places as are free, so that none fills the queue.
    const isFull = this.#useOf(id).waiting >= MAX_WAITING - this.#waiters.size;
    if (maxWaitMs <= 0 || isFull) return Promise.resolve('timeout');
    return new Promise((resolve) => {
      const waiter: Waiter = {
        holder,
        end: (result) => {
          this.#waiters.delete(waiter);
          this.#count(id, 'waiting', -1);
          cancel();
          resolve(result);
        },
      };
      const cancel = onTimeoutOrDisconnect({ clock: this.#clock, ms: maxWaitMs, disconnect }, waiter.end);
      this.#waiters.add(waiter);
      this.#count(id, 'waiting', 1);
      this.#grantWaiting();
    });
  }

  /** Ends all waits, and every later one at once. */
  close(): void {
    this.#closed = true;
    for (const waiter of [...this.#waiters]) waiter.end('closed');
  }

  #isFreeFor({ id, maxInFlight }: PermitHolder): boolean {
    const most = maxInFlight ?? Math.max(1, Math.floor(this.#maxInFlight / 2));
    return this.#inFlight < this.#maxInFlight && this.#useOf(id).inFlight < most;
  }

  #grant({ id }: PermitHolder): Permit {
    this.#inFlight += 1;
    this.#count(id, 'inFlight', 1);
    return new Permit(() => {
      this.#inFlight -= 1;
      this.#count(id, 'inFlight', -1);
      this.#grantWaiting();
    });
  }

  #grantWaiting(): void {
    for (const waiter of this.#waiters) {
      if (this.#inFlight >= this.#maxInFlight) return;
      if (this.#isFreeFor(waiter.holder)) waiter.end(this.#grant(waiter.holder));
    }
  }

  #useOf(tenant: string): Use {
    return this.#uses.get(tenant) ?? { inFlight: 0, waiting: 0 };
  }

  #count(tenant: string, what: keyof Use, by: 1 | -1): void {
    const use = this.#useOf(tenant);
    use[what] += by;
    if (use.inFlight + use.waiting > 0) this.#uses.set(tenant, use);
    else this.#uses.delete(tenant);
  }
}

/** The right to have one request in flight, until the last byte of its response. */
export class Permit {
  #onRelease: (() => void) | null;
  #held = false;

  constructor(onRelease: () => void) {
    this.#onRelease = onRelease;
  }

  /** Keeps the permit until a streamed body has ended or broken. */
  holdUntilClosed(body: unknown): void {
    if (!(body instanceof Readable) || body.closed) return;
    this.#held = true;
    body.once('close', () => this.release());
  }

  releaseUnlessHeld(): void {
    if (!this.#held) this.release();
  }

  /** A second call does nothing. */
  release(): void {
    const onRelease = this.#onRelease;
    this.#onRelease = null;
    onRelease?.();
  }
}
