import { createCounter } from '../adapters/guards/counter.ts';
import { createFloodLimit, FLOOD_WINDOW_SECONDS } from '../adapters/guards/flood.ts';
import { createFailedAuthLimit, GUESS_WINDOW_SECONDS } from '../adapters/guards/guess.ts';
import type { FailedAuthLimit, FloodLimit } from '../auth/guards.ts';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config/model.ts';
import type { Meter } from '../ports.ts';
import type { QuotaBackend } from './quota-backend.ts';

/** The guards, on Redis where there is one and in memory where there is none, or where it does not answer. */
export function openGuards(options: {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly meter: Meter;
  readonly redis: QuotaBackend['redis'];
}): { readonly guesses: FailedAuthLimit; readonly floods: FloodLimit } {
  const { settings, clock, meter, redis } = options;
  const { failedAuth: failedKeys, requestsPerSecond: flood } = settings.limits;
  const counter = (name: 'guess' | 'flood', limit: number, windowSeconds: number) =>
    createCounter({ name, limit, windowSeconds, redis, onFallback: () => meter.guardFallback(name) });
  return {
    guesses: createFailedAuthLimit({ counter: counter('guess', failedKeys, GUESS_WINDOW_SECONDS), clock }),
    floods: createFloodLimit({ counter: counter('flood', flood, FLOOD_WINDOW_SECONDS), clock, limit: flood }),
  };
}
