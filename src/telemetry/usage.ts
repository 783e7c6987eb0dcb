/** Counts of a tenant since the process began. */
export interface Usage {
  requests: number;
  refused: number;
  saved: number;
  /** Requests that the cache may serve, and those it did. */
  reads: number;
  hits: number;
}

/** Counts what each tenant uses, for the admin page. */
export interface UsageCount {
  finished(tenant: string, cache: string, rejected: boolean): void;
  avoided(tenant: string): void;
  /** Forgets a tenant that is no longer configured. */
  forget(gone: (tenant: string) => boolean): void;
  read(): ReadonlyMap<string, Usage>;
}

/** Cache statuses of a request that was served without an upstream request of its own. */
const HITS: ReadonlySet<string> = new Set(['hit', 'stale', 'collapsed']);

export function createUsageCount(): UsageCount {
  const usages = new Map<string, Usage>();
  const of = (tenant: string): Usage => {
    const found = usages.get(tenant) ?? { requests: 0, refused: 0, saved: 0, reads: 0, hits: 0 };
    usages.set(tenant, found);
    return found;
  };
  return {
    finished(tenant, cache, rejected) {
      const usage = of(tenant);
      usage.requests += 1;
      if (rejected) usage.refused += 1;
      if (HITS.has(cache)) usage.hits += 1;
      if (HITS.has(cache) || cache === 'miss') usage.reads += 1;
    },
    avoided(tenant) {
      of(tenant).saved += 1;
    },
    forget(gone) {
      for (const tenant of usages.keys()) if (gone(tenant)) usages.delete(tenant);
    },
    read: () => new Map([...usages].map(([tenant, usage]) => [tenant, { ...usage }])),
  };
}
