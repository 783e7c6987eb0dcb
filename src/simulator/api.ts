import type { Credentials } from './credentials.ts';
import type { Dataset } from './dataset.ts';
import type { FaultRule } from './faults.ts';
import type { Switches } from './options.ts';
import type { Arrival, Stats } from './record.ts';

/** A running simulator, as tests drive it. */
export interface Simulator {
  readonly url: string;
  readonly port: number;
  /** May be changed while it runs. */
  readonly switches: Switches;
  readonly credentials: Credentials;
  readonly data: Dataset;
  arrivals(): readonly Arrival[];
  stats(): Stats;
  /** Forgets what has arrived; the throttle's window stays. */
  reset(): void;
  fault(rule: FaultRule): void;
  clearFaults(): void;
  /** Others on the account use this many of its requests. */
  useForeign(count: number): void;
  close(): Promise<void>;
}
