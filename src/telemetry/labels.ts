/** The label of a value that is absent: no tenant before authentication, no route for an unknown path. */
export const NONE = 'none';
/** The label of a value outside of the set that a label may have. */
export const OTHER = 'other';

/** Methods of a caller's invention share a label, or callers could make series as they like. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
const CACHE_STATUSES = new Set(['hit', 'stale', 'miss', 'collapsed', 'bypass', NONE]);

export function methodLabel(method: string): string {
  return METHODS.has(method) ? method : OTHER;
}

/** An HTTP status, or the reason why there was none. An upstream may send any three digits. */
export function statusLabel(status: number | string): string {
  if (typeof status === 'string') return status;
  return Number.isInteger(status) && status >= 100 && status <= 599 ? String(status) : OTHER;
}

export function cacheLabel(cache: string): string {
  return CACHE_STATUSES.has(cache) ? cache : NONE;
}

export type Labels<Name extends string = string> = Readonly<Record<Name, string>>;

/** Bounds the number of series of one metric, whatever its labels are. */
export interface SeriesLimit<Name extends string> {
  /** The labels to count under: as given; from the limit on with tenant `other`; from twice the limit on all `other`. */
  admit(labels: Labels<Name>): Labels<Name>;
  /** Forgets the series that match, and returns their labels. */
  forget(gone: (labels: Labels) => boolean): Labels<Name>[];
}

export function createSeriesLimit<Name extends string>(names: readonly Name[], limit: number): SeriesLimit<Name> {
  const known = new Map<string, Labels<Name>>();
  const admitted = (labels: Labels<Name>, below: number): Labels<Name> | undefined => {
    const key = names.map((name) => labels[name]).join('\n');
    const found = known.get(key);
    if (found !== undefined || known.size >= below) return found;
    known.set(key, labels);
    return labels;
  };
  const all = Object.fromEntries(names.map((name) => [name, OTHER])) as Labels<Name>;
  return {
    admit(labels) {
      const first = admitted(labels, limit);
      if (first !== undefined) return first;
      const anyTenant = 'tenant' in labels ? { ...labels, tenant: OTHER } : labels;
      return admitted(anyTenant, limit * 2) ?? all;
    },
    forget(gone) {
      const matching = [...known].filter(([, labels]) => gone(labels));
      for (const [key] of matching) known.delete(key);
      return matching.map(([, labels]) => labels);
    },
  };
}
