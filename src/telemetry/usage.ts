import type { Catalogue } from './catalogue.ts';

/** What was counted of a tenant since the process began. */
export interface Usage {
  requests: number;
  refused: number;
  saved: number;
  /** Requests that the cache may answer, and those it did. */
  reads: number;
  hits: number;
}

/** What `cache` says of a request that was answered without one of its own upstream. */
const HITS: ReadonlySet<string | undefined> = new Set(['hit', 'stale', 'collapsed']);

/** By tenant, from the counters that are there anyway: one pass over their series, which are bounded. */
export function usageOf({ requests, refusals, saved }: Catalogue): Map<string, Usage> {
  const usages = new Map<string, Usage>();
  const of = (tenant = ''): Usage => {
    let usage = usages.get(tenant);
    if (usage === undefined) {
      usage = { requests: 0, refused: 0, saved: 0, reads: 0, hits: 0 };
      usages.set(tenant, usage);
    }
    return usage;
  };
  for (const { labels, value } of requests.all()) {
    const usage = of(labels['tenant']);
    usage.requests += value;
    const hit = HITS.has(labels['cache']);
    if (hit) usage.hits += value;
    if (hit || labels['cache'] === 'miss') usage.reads += value;
  }
  for (const { labels, value } of refusals.all()) of(labels['tenant']).refused += value;
  for (const { labels, value } of saved.all()) of(labels['tenant']).saved += value;
  return usages;
}
