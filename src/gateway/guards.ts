import { createCounter } from '../adapters/guards/counter.ts';
import { createFloodGuard, FLOOD_WINDOW_SECONDS } from '../adapters/guards/flood.ts';
import { createGuessGuard, GUESS_WINDOW_SECONDS } from '../adapters/guards/guess.ts';
import type { FloodGuard, GuessGuard } from '../auth/guards.ts';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config/model.ts';
import type { Meter } from '../observe.ts';
import type { State } from './state.ts';

/** The guards, on Redis where there is one and in memory where there is none, or where it does not answer. */
export function openGuards(options: {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly meter: Meter;
  readonly redis: State['redis'];
}): { readonly guesses: GuessGuard; readonly floods: FloodGuard } {
  const { settings, clock, meter, redis } = options;
  const { failedKeys, flood } = settings.limits;
  const counter = (name: 'guess' | 'flood', limit: number, windowSeconds: number) =>
    createCounter({ name, limit, windowSeconds, redis, onFallback: () => meter.guardFallback(name) });
  return {
    guesses: createGuessGuard({ counter: counter('guess', failedKeys, GUESS_WINDOW_SECONDS), clock }),
    floods: createFloodGuard({ counter: counter('flood', flood, FLOOD_WINDOW_SECONDS), clock, limit: flood }),
  };
}
