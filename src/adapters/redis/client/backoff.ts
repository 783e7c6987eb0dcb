import type { Clock } from '../../../clock.ts';

/** As often as a replica sends heartbeats: a server that has lost its memory waits for replicas that come back within two seconds. */
export const LONGEST_PAUSE_MS = 500;
/** A shorter connection was of no use: a server that accepts it and refuses every command is not tried more often. */
const USEFUL_MS = 5_000;

/** Pauses before a connection is opened again. */
export interface Backoff {
  /** The connection can be used. */
  connected(): void;
  nextMs(): number;
}

export function createBackoff(clock: Clock): Backoff {
  let attempts = 0;
  let connectedAt: number = Number.POSITIVE_INFINITY;
  return {
    connected() {
      connectedAt = clock.monotonic();
    },
    nextMs() {
      if (clock.monotonic() - connectedAt >= USEFUL_MS) attempts = 0;
      connectedAt = Number.POSITIVE_INFINITY;
      attempts += 1;
      return pauseAfter(attempts);
    },
  };
}

/** Short, since a minute of the account is passing; by chance, so that replicas do not come all at once. */
function pauseAfter(attempt: number): number {
  return Math.min(LONGEST_PAUSE_MS, 25 * 2 ** Math.min(attempt, 6)) * (0.75 + Math.random() / 4);
}
