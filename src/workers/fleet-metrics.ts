import type { Settings } from '../config/model.ts';
import { createDeparted, mergeSnapshots } from '../telemetry/aggregation.ts';
import { createMetrics, type Metrics } from '../telemetry/metrics.ts';
import type { Crew } from './crew.ts';

/** The metrics of all workers as those of one process; what the primary does itself it counts itself. */
export interface FleetMetrics {
  readonly own: Metrics;
  /** A worker is gone: the last that is known of what it counted. */
  gone(snapshot: string | null): void;
  keepTenants(tenants: ReadonlySet<string>): void;
  render(crew: Crew): Promise<string>;
}

/** Below what a scrape may take; of one that does not answer, the last it told is shown again. */
const ANSWER_MS = 3_000;

export function createFleetMetrics(options: {
  readonly version: string;
  readonly settings: () => Settings;
  readonly logLinesDropped: () => number;
  readonly onUnreadable: (family: string, error: unknown) => void;
}): FleetMetrics {
  const own = createMetrics({
    version: options.version,
    sources: {
      // All that is about traffic the workers tell.
      accounts: () => [],
      cache: () => null,
      upstreams: () => [],
      keyExpiries: () => [],
      credentials: () => [],
      revision: () => options.settings().revision,
      logLinesDropped: options.logLinesDropped,
      serves: false,
    },
    onUnreadable: options.onUnreadable,
  });
  const departed = createDeparted();
  return {
    own,
    gone: (snapshot) => {
      if (snapshot !== null) departed.add(snapshot);
    },
    keepTenants: departed.keepTenants,
    async render(crew) {
      for (const { member, answer } of await crew.askAll({ about: 'metrics' }, ANSWER_MS)) member.metrics = answer;
      const mine = await own.snapshot();
      // From here to the end of the list nothing is waited for: a worker that ends now is either among the members or departed.
      const theirs = crew.members().flatMap(({ metrics }) => metrics ?? []);
      return mergeSnapshots([mine, ...theirs, ...departed.snapshots()]);
    },
  };
}
