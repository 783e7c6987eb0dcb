import type { MemoryCache } from '../adapters/memory/cache.ts';
import { BriefMemory } from '../cache/brief.ts';
import { createDrops } from '../cache/drops.ts';
import { Flights } from '../cache/flights.ts';
import type { CacheState } from '../cache/options.ts';
import type { Clock } from '../clock.ts';

/** What the cache remembers: in this process, and where there is a Redis, with all replicas. */
export function openCache({ memory, clock }: { readonly memory: MemoryCache; readonly clock: Clock }): CacheState {
  return {
    store: memory,
    drops: createDrops(),
    flights: new Flights(),
    others: null,
    lone: new BriefMemory(clock),
    failing: new BriefMemory(clock),
  };
}
