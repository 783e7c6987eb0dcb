import type { Clock } from '../clock.ts';
import { extend, type Handler, type Middleware, type Rejection, type Result, reject } from '../context.ts';
import type { Slot } from '../quota/ledger.ts';
import { type Admitted, refuseVisit, retryAfterSeconds } from '../quota/quota.ts';
import type { Routed } from '../routing/match-route.ts';
import type { ConcurrencyLimit, Permit } from './permits.ts';
import type { Upstreams } from './upstreams.ts';

/** A request that may be under way now. */
export interface WithPermit {
  readonly permit: Permit;
}

interface Bound extends Routed, Admitted {
  readonly route: { readonly upstream: { readonly id: string } };
}

export interface ConcurrencyLimitOptions {
  readonly upstreams: Upstreams;
  readonly clock: Clock;
  readonly random: () => number;
}

type Acquired = { readonly kind: 'turn'; readonly place: Permit; readonly slot: Slot } | Rejection;

/**
 * Keeps what is under way to an upstream below its maxInFlight. Slot and place are held together or not at all: whoever waits for
 * a place has given its slot back, and whoever waits for a slot its place. Otherwise a slow upstream would use up the
 * account, and a tenant without tokens would hold all places.
 */
export function concurrencyLimit<E extends Bound>(options: ConcurrencyLimitOptions): Middleware<E, E & WithPermit> {
  return (next) => async (context) => {
    const { concurrency: places } = options.upstreams.of(context.route.upstream.id);
    const place = places.tryAcquire();
    if (place !== null) return seated(next, context, place, context.slot);
    context.slot.refund();
    const turn = await inTurn(options, context, places);
    return turn.kind === 'rejection' ? turn : seated(next, context, turn.place, turn.slot);
  };
}

async function seated<E extends Bound>(
  next: Handler<E & WithPermit>,
  context: E,
  place: Permit,
  slot: Slot,
): Promise<Result> {
  try {
    return await next(extend(context, { permit: place, slot }));
  } finally {
    place.releaseUnlessHeld();
  }
}

async function inTurn(
  { clock, random }: ConcurrencyLimitOptions,
  context: Bound,
  places: ConcurrencyLimit,
): Promise<Acquired> {
  const leftMs = (): number => Math.max(0, context.patientUntil - clock.monotonic());
  for (;;) {
    const since = clock.monotonic();
    const span = context.trace?.start('wait') ?? null;
    const place = await places.acquire(leftMs(), context.disconnect);
    span?.end({ decision: typeof place === 'string' ? place : 'admitted' });
    context.record.waitMs += clock.monotonic() - since;
    if (typeof place === 'string') return refuseTurn(place, random);
    // While it waited others may have taken the slot it gave back.
    const atOnce = await context.admitLater(0);
    if (atOnce.kind === 'admitted') return { kind: 'turn', place, slot: atOnce.decision.slot };
    place.free();
    if (atOnce.kind !== 'refused' || leftMs() === 0) return refuseVisit(atOnce, random);
    const later = await context.admitLater(leftMs());
    if (later.kind !== 'admitted') return refuseVisit(later, random);
    const again = places.tryAcquire();
    if (again !== null) return { kind: 'turn', place: again, slot: later.decision.slot };
    later.decision.slot.refund();
  }
}

function refuseTurn(why: 'left' | 'late' | 'closed', random: () => number): Rejection {
  switch (why) {
    case 'left':
      return reject('client_closed', { internal: 'caller left while waiting' });
    case 'closed':
      return reject('draining', { retryAfterSeconds: 1 });
    case 'late':
      return reject('queue_timeout', {
        detail: 'As many requests as the gateway may have under way to Patchworks are waiting for their answers.',
        retryAfterSeconds: retryAfterSeconds(AGAIN_MS, random),
        internal: 'maxInFlight',
      });
  }
}

/** Nobody knows when an answer comes; a second is what one usually takes at most. */
const AGAIN_MS = 1_000;
