// The two tiers of the cache, and idempotent writes.
import { timeseries } from '../panels.mjs';
import { metric, perMinute, rate, share, sum } from '../queries.mjs';

const perReplica = '{{instance}}';

export const cache = [
  timeseries({
    title: 'Cache by tier',
    description:
      'Lookups and stores. redis failed: responses cannot be shared, look at "Shared state". skip: not stored, because of its size or for lack of memory. evict: memory is too small, raise cache.memory.',
    unit: 'ops',
    width: 7,
    height: 8,
    queries: [[sum(rate('cache_operations_total'), 'tier, outcome'), '{{tier}} {{outcome}}']],
    colours: { '.* failed': 'red', '.* broken': 'dark-red' },
  }),
  timeseries({
    title: 'Hit ratio by tier',
    description:
      'Hits of the lookups in that tier. Memory low and Redis high: many replicas, or too little memory. Both low: look at "Routes" of the tenants.',
    unit: 'percentunit',
    max: 1,
    width: 5,
    height: 8,
    queries: [
      [
        share(
          sum(rate('cache_operations_total', 'outcome="hit"'), 'tier'),
          sum(rate('cache_operations_total', 'outcome=~"hit|miss"'), 'tier'),
        ),
        '{{tier}}',
      ],
    ],
  }),
  timeseries({
    title: 'Entries in memory',
    description: 'Entries of each replica. A sudden fall: a purge, or a write that invalidated a whole collection.',
    unit: 'short',
    width: 4,
    height: 8,
    queries: [[metric('cache_entries'), perReplica]],
  }),
  timeseries({
    title: 'Size in memory',
    description:
      "Size of each replica's cache, at most cache.memory. At the limit and evicting: raise it, together with the memory limit of the container.",
    unit: 'bytes',
    width: 4,
    height: 8,
    queries: [[metric('cache_bytes'), perReplica]],
  }),
  timeseries({
    title: 'Idempotent writes',
    description:
      'By result. replayed: sent twice, done once. mismatch: a client uses one key for different writes. unknown: the result of the first is not known, a person has to look. unavailable: Redis.',
    unit: 'reqpm',
    width: 4,
    height: 8,
    columns: true,
    stacked: 'sum',
    queries: [[perMinute(rate('idempotency_total'), 'outcome'), '{{outcome}}']],
    colours: { first: 'green', replayed: 'blue', '(unknown|broken|unavailable)': 'red' },
  }),
];
