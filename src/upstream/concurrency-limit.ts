import { Readable } from 'node:stream';
import type { Clock } from '../clock.ts';
import { type ClientDisconnect, extend, type Middleware, type Rejection, reject } from '../context.ts';
import type { Slot } from '../quota/quota-store.ts';
import { rejectAdmission, retryAfterSeconds, type WithSlot } from '../quota/rate-limit.ts';
import type { Routed } from '../routing/match-route.ts';

/** A request that may be sent now. */
export interface WithPermit {
  readonly permit: Permit;
}

interface LimitedContext extends Routed, WithSlot {
  readonly route: { readonly upstream: { readonly id: string } };
}

export interface ConcurrencyLimitOptions {
  readonly upstreams: { of(id: string): { readonly concurrency: ConcurrencyLimit } };
  readonly clock: Clock;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
}

type Acquired = { readonly kind: 'acquired'; readonly permit: Permit; readonly slot: Slot } | Rejection;

/** Responses arrive at unknown times, and most within a second. */
const RETRY_AFTER_MS = 1_000;
/** A longer queue would only delay rejections, and each waiting request holds a connection and a body. */
const MAX_WAITING = 1_000;

/**
 * Keeps the requests in flight to an upstream below its `maxInFlight`. A request holds slot and permit together or neither: with a
 * slot alone, a slow upstream would use up the account; with a permit alone, a tenant without tokens would hold all permits.
 */
export function concurrencyLimit<E extends LimitedContext>(
  options: ConcurrencyLimitOptions,
): Middleware<E, E & WithPermit> {
  return (next) => async (context) => {
    const limit = options.upstreams.of(context.route.upstream.id).concurrency;
    const permit = limit.tryAcquire();
    if (permit === null) context.slot.refund();
    const acquired =
      permit === null
        ? await waitForPermitAndSlot(options, context, limit)
        : { kind: 'acquired' as const, permit, slot: context.slot };
    if (acquired.kind === 'rejection') return acquired;
    try {
      return await next(extend(context, { permit: acquired.permit, slot: acquired.slot }));
    } finally {
      acquired.permit.releaseUnlessHeld();
    }
  };
}

async function waitForPermitAndSlot(
  { clock, random }: ConcurrencyLimitOptions,
  context: LimitedContext,
  limit: ConcurrencyLimit,
): Promise<Acquired> {
  const remainingMs = (): number => Math.max(0, context.waitUntil - clock.monotonic());
  for (;;) {
    const since = clock.monotonic();
    const span = context.trace?.start('wait') ?? null;
    const permit = await limit.acquire(remainingMs(), context.disconnect);
    span?.end({ decision: typeof permit === 'string' ? permit : 'admitted' });
    context.record.waitMs += clock.monotonic() - since;
    if (typeof permit === 'string') return rejectWaiting(permit, random);
    // Other requests may have taken the slot that this one gave back.
    const atOnce = await context.requeue(0);
    if (atOnce.kind === 'admitted') return { kind: 'acquired', permit, slot: atOnce.slot };
    permit.release();
    if (atOnce.kind !== 'rejected' || remainingMs() === 0) return rejectAdmission(atOnce, random);
    const later = await context.requeue(remainingMs());
    if (later.kind !== 'admitted') return rejectAdmission(later, random);
    const free = limit.tryAcquire();
    if (free !== null) return { kind: 'acquired', permit: free, slot: later.slot };
    later.slot.refund();
  }
}

function rejectWaiting(reason: Exclude<AcquireResult, Permit>, random: () => number): Rejection {
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

interface Waiter {
  readonly end: (result: AcquireResult) => void;
}

/** The permits of one upstream. Requests without a permit wait in order of arrival. */
export class ConcurrencyLimit {
  #maxInFlight: number;
  readonly #clock: Clock;
  #inFlight = 0;
  readonly #waiters = new Set<Waiter>();
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

  /** Null: no permit is free, or earlier requests wait for one. */
  tryAcquire(): Permit | null {
    if (this.#inFlight >= this.#maxInFlight || this.#waiters.size > 0) return null;
    return this.#grant();
  }

  /** Waits for a permit for at most `maxWaitMs`, or until the client disconnects. */
  acquire(maxWaitMs: number, disconnect: ClientDisconnect): Promise<AcquireResult> {
    if (this.#closed) return Promise.resolve('closed');
    if (disconnect.happened) return Promise.resolve('disconnected');
    if (maxWaitMs <= 0 || this.#waiters.size >= MAX_WAITING) return Promise.resolve('timeout');
    return new Promise((resolve) => {
      const waiter: Waiter = {
        end: (result) => {
          this.#waiters.delete(waiter);
          cancelTimer();
          stopListening();
          resolve(result);
        },
      };
      const cancelTimer = this.#clock.after(maxWaitMs, () => waiter.end('timeout'));
      const stopListening = disconnect.onDisconnect(() => waiter.end('disconnected'));
      this.#waiters.add(waiter);
      this.#grantWaiting();
    });
  }

  /** Ends all waits, and every later one at once. */
  close(): void {
    this.#closed = true;
    for (const waiter of [...this.#waiters]) waiter.end('closed');
  }

  #grant(): Permit {
    this.#inFlight += 1;
    return new Permit(() => {
      this.#inFlight -= 1;
      this.#grantWaiting();
    });
  }

  #grantWaiting(): void {
    for (const waiter of this.#waiters) {
      if (this.#inFlight >= this.#maxInFlight) return;
      waiter.end(this.#grant());
    }
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
