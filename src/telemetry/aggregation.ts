import { AggregatorRegistry, type MetricObjectWithValues, type MetricValue, type Registry } from 'prom-client';
import { NONE, OTHER } from './labels.ts';

/** What the values that several workers have of one series make together. Counters and histograms are always added up. */
export type Aggregator = 'sum' | 'max' | 'min';

/**
 * Of prom-client's own families, where its choice would hide something: of lags the average, and the age of the processes
 * altogether. The primary is older than any worker, so the time the process began is its.
 */
const PROCESS: Readonly<Record<string, Aggregator>> = {
  process_start_time_seconds: 'min',
  nodejs_version_info: 'max',
  nodejs_eventloop_lag_seconds: 'max',
  nodejs_eventloop_lag_min_seconds: 'min',
  nodejs_eventloop_lag_max_seconds: 'max',
  nodejs_eventloop_lag_mean_seconds: 'max',
  nodejs_eventloop_lag_stddev_seconds: 'max',
  nodejs_eventloop_lag_p50_seconds: 'max',
  nodejs_eventloop_lag_p90_seconds: 'max',
  nodejs_eventloop_lag_p99_seconds: 'max',
};

export function aggregateProcess(registry: Registry): void {
  for (const [name, aggregator] of Object.entries(PROCESS)) {
    const family = registry.getSingleMetric(name);
    if (family !== undefined) Object.assign(family, { aggregator });
  }
}

type Family = MetricObjectWithValues<MetricValue<string>>;

/**
 * The exposition text of several processes as one. Family by family, with a turn of the event loop between: 10,000 tenants take
 * the better part of a second, and whoever merges has something else to do as well.
 */
export async function mergeSnapshots(snapshots: readonly string[]): Promise<string> {
  const byName = new Map<string, Family[]>();
  for (const text of snapshots) {
    for (const family of parsed(text)) byName.set(family.name, [...(byName.get(family.name) ?? []), family]);
    await turnOfTheLoop();
  }
  const texts: string[] = [];
  for (const families of byName.values()) {
    const merged = AggregatorRegistry.aggregate(families.map((family) => [family]));
    texts.push((await merged.metrics()).trimEnd());
    await turnOfTheLoop();
  }
  return `${texts.join('\n\n')}\n`;
}

function turnOfTheLoop(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** What processes that are gone have counted: counters never go back. */
export interface Departed {
  /** @param snapshot the last that is known of it */
  add(snapshot: string): void;
  /** Forgets the series of tenants that are no longer configured. */
  keepTenants(tenants: ReadonlySet<string>): void;
  snapshots(): readonly string[];
}

export function createDeparted(): Departed {
  let texts: string[] = [];
  return {
    add(snapshot) {
      const counted = (JSON.parse(snapshot) as Family[]).filter(isCount);
      texts.push(JSON.stringify(texts.length === 0 ? counted : sumOf([...texts.map(parsed), counted])));
      texts = texts.slice(-1);
    },
    keepTenants(tenants) {
      texts = texts.map((text) => JSON.stringify(parsed(text).map((family) => ofTenants(family, tenants))));
    },
    snapshots: () => texts,
  };
}

function parsed(text: string): Family[] {
  return JSON.parse(text) as Family[];
}

function sumOf(all: readonly Family[][]): Family[] {
  const families = AggregatorRegistry.aggregate([...all]).getMetricsAsArray();
  // An aggregate gives its values at once; prom-client's types leave that out.
  return families.map((family) => (family as unknown as { get: () => Family }).get());
}

function ofTenants(family: Family, tenants: ReadonlySet<string>): Family {
  return { ...family, values: family.values.filter(({ labels: { tenant } }) => isKept(tenant, tenants)) };
}

/** `type` is a number in prom-client's types, and a word in what it writes. */
function isCount({ type }: Family): boolean {
  return ['counter', 'histogram'].includes(String(type));
}

function isKept(tenant: string | number | undefined, tenants: ReadonlySet<string>): boolean {
  return tenant === undefined || tenant === NONE || tenant === OTHER || tenants.has(String(tenant));
}
