import type { Credentials } from './credentials.ts';
import type { Dataset } from './dataset.ts';
import type { FaultRule } from './faults.ts';
import type { Arrival, Stats } from './record.ts';
import type { Switches } from './switches.ts';

/** A running simulator, as tests drive it. */
export interface Simulator {
  readonly url: string;
  readonly port: number;
  /** May be changed while it runs; {@link Simulator.set} checks what comes from outside. */
  readonly switches: Switches;
  readonly credentials: Credentials;
  /** Of the first account. */
  readonly data: Dataset;
  /** Throws where there is no such account. */
  dataOf(account: string): Dataset;
  /** Changes switches; throws a TypeError that names what is wrong, and then changes none. */
  set(switches: Partial<Switches>): void;
  /** The latest, oldest first. */
  arrivals(): readonly Arrival[];
  stats(): Stats;
  /** Forgets what has arrived; the throttle's window stays. */
  reset(): void;
  fault(rule: FaultRule): void;
  clearFaults(): void;
  /** Others on the account use this many of its requests at once. Returns how many were left for them. */
  useForeign(count: number, account?: string): number;
  /** Ends all connections and timers. */
  close(): Promise<void>;
}
