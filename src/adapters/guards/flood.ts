import type { FloodLimit } from '../../auth/guards.ts';
import type { Clock } from '../../clock.ts';
import type { Counter } from './counter.ts';

export const FLOOD_WINDOW_SECONDS = 1;
/** Requests are told to the shared counter in bundles: at least this often, and no more. */
const BUNDLE_MS = 200;

interface Tally {
  /** Since the latest bundle. */
  untold: number;
  /** In the present second, here alone. */
  here: number;
  hereUntil: number;
  blockedUntil: number;
}

/**
 * Counts every request of a tenant without asking anybody: bundles go to the counter that replicas share, and what comes
 * back blocks the tenant for the rest of the second. Tenants come from the configuration: the map is bounded by it.
 */
export function createFloodLimit(options: {
  readonly counter: Counter;
  readonly clock: Clock;
  /** Requests a second. */
  readonly limit: number;
}): FloodLimit {
  const { counter, clock, limit } = options;
  const tallies = new Map<string, Tally>();
  let bundling = false;

  const tell = (): void => {
    bundling = false;
    for (const [tenant, tally] of tallies) {
      if (tally.untold === 0) {
        if (tally.hereUntil < clock.monotonic()) tallies.delete(tenant);
        continue;
      }
      const points = tally.untold;
      tally.untold = 0;
      void counter.add(tenant, points).then((blockedMs) => {
        // The limit itself may be used up; only what is above it is a flood.
        if (blockedMs > 0) tally.blockedUntil = Math.max(tally.blockedUntil, clock.monotonic() + blockedMs);
      });
    }
    if (tallies.size > 0) bundle();
  };
  const bundle = (): void => {
    if (bundling) return;
    bundling = true;
    clock.after(BUNDLE_MS, tell);
  };

  return {
    blockedForMs(tenant) {
      const now = clock.monotonic();
      let tally = tallies.get(tenant);
      if (tally === undefined) {
        tally = { untold: 0, here: 0, hereUntil: 0, blockedUntil: 0 };
        tallies.set(tenant, tally);
      }
      if (tally.blockedUntil > now) return tally.blockedUntil - now;
      if (tally.hereUntil <= now) {
        tally.here = 0;
        tally.hereUntil = now + FLOOD_WINDOW_SECONDS * 1000;
      }
      tally.here += 1;
      tally.untold += 1;
      if (tally.here > limit) tally.blockedUntil = tally.hereUntil;
      bundle();
      return tally.blockedUntil > now ? tally.blockedUntil - now : 0;
    },
  };
}
