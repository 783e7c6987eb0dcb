import type { Clock } from '../clock.ts';
import { afterwards, extend, type Handler, type Outcome, type Refusal, refuse, type Stage } from '../exchange.ts';
import type { Slot } from '../quota/ledger.ts';
import { type Admitted, refuseVisit, retryAfterSeconds } from '../quota/quota.ts';
import type { Routed } from '../routing/route.ts';
import type { Place, Places } from './places.ts';
import type { Upstreams } from './upstreams.ts';

/** A request that may be under way now. */
export interface Seated {
  readonly place: Place;
}

interface Bound extends Routed, Admitted {
  readonly route: { readonly upstream: { readonly id: string } };
}

export interface TurnsOptions {
  readonly upstreams: Upstreams;
  readonly clock: Clock;
  readonly random: () => number;
}

type Turn = { readonly kind: 'turn'; readonly place: Place; readonly slot: Slot } | Refusal;

/**
 * Keeps what is under way to an upstream below its maxInFlight. Slot and place are held together or not at all: whoever waits for
 * a place has given its slot back, and whoever waits for a slot its place. Otherwise a slow upstream would use up the
 * account, and a tenant without tokens would hold all places.
 */
export function takeTurns<E extends Bound>(options: TurnsOptions): Stage<E, E & Seated> {
  return (next) => (exchange) => {
    const { places } = options.upstreams.of(exchange.route.upstream.id);
    const place = places.take();
    if (place !== null) return seated(next, exchange, place, exchange.slot);
    exchange.slot.refund();
    return inTurn(options, exchange, places).then((turn) =>
      turn.kind === 'refusal' ? turn : seated(next, exchange, turn.place, turn.slot),
    );
  };
}

function seated<E extends Bound>(
  next: Handler<E & Seated>,
  exchange: E,
  place: Place,
  slot: Slot,
): Outcome | Promise<Outcome> {
  let outcome: Outcome | Promise<Outcome>;
  try {
    outcome = next(extend(exchange, { place, slot }));
  } catch (error) {
    place.done();
    throw error;
  }
  if (outcome instanceof Promise) return afterwards(outcome, () => place.done());
  place.done();
  return outcome;
}

async function inTurn({ clock, random }: TurnsOptions, exchange: Bound, places: Places): Promise<Turn> {
  const leftMs = (): number => Math.max(0, exchange.patientUntil - clock.monotonic());
  for (;;) {
    const since = clock.monotonic();
    const span = exchange.trace?.start('wait') ?? null;
    const place = await places.wait(leftMs(), exchange.hangUp);
    span?.end({ decision: typeof place === 'string' ? place : 'admitted' });
    exchange.notes.waitMs += clock.monotonic() - since;
    if (typeof place === 'string') return refuseTurn(place, random);
    // While it waited others may have taken the slot it gave back.
    const atOnce = await exchange.admitLater(0);
    if (atOnce.kind === 'admitted') return { kind: 'turn', place, slot: atOnce.decision.slot };
    place.free();
    if (atOnce.kind !== 'refused' || leftMs() === 0) return refuseVisit(atOnce, random);
    const later = await exchange.admitLater(leftMs());
    if (later.kind !== 'admitted') return refuseVisit(later, random);
    const again = places.take();
    if (again !== null) return { kind: 'turn', place: again, slot: later.decision.slot };
    later.decision.slot.refund();
  }
}

function refuseTurn(why: 'left' | 'late' | 'closed', random: () => number): Refusal {
  switch (why) {
    case 'left':
      return refuse('internal', { internal: 'caller left while waiting' });
    case 'closed':
      return refuse('draining', { retryAfterSeconds: 1 });
    case 'late':
      return refuse('queue_timeout', {
        detail: 'As many requests as the gateway may have under way to Patchworks are waiting for their answers.',
        retryAfterSeconds: retryAfterSeconds(AGAIN_MS, random),
        internal: 'maxInFlight',
      });
  }
}

/** Nobody knows when an answer comes; a second is what one usually takes at most. */
const AGAIN_MS = 1_000;
