// The two tiers of the cache, and repeated writes.
import { timeseries } from '../panels.mjs';
import { metric, perMinute, rate, share, sum } from '../queries.mjs';

const perReplica = '{{instance}}';

export const cache = [
  timeseries({
    title: 'Cache by tier',
    description:
      'Look-ups and stores. redis failed: answers can not be shared, see "Shared state". skip: not stored, for its size or for want of room. evict: memory is too small for what is asked, raise cache.memory.',
    unit: 'ops',
    width: 8,
    height: 8,
    queries: [[sum(rate('cache_operations_total'), 'tier, outcome'), '{{tier}} {{outcome}}']],
    colours: { '.* failed': 'red', '.* broken': 'dark-red' },
  }),
  timeseries({
    title: 'Hit ratio by tier',
    description:
      'Of the look-ups in that tier. Memory low and Redis high: many replicas, or a memory that is too small. Both low: see "Routes" of the tenants.',
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
    title: 'Answers in memory',
    description: 'Entries of each replica. Falls at once: a purge, or a write that dropped a whole collection.',
    unit: 'short',
    width: 4,
    height: 8,
    queries: [[metric('cache_entries'), perReplica]],
  }),
  timeseries({
    title: 'Size in memory',
    description:
      'Of each replica, at most cache.memory. At the limit and evicting: raise it, together with the memory limit of the container.',
    unit: 'bytes',
    width: 4,
    height: 8,
    queries: [[metric('cache_bytes'), perReplica]],
  }),
  timeseries({
    title: 'Idempotent writes',
    description:
      'By what came of the key. replayed: sent twice, done once. mismatch: a client uses one key for different writes. unknown: nobody knows whether the first was done, a person has to look. unavailable: Redis.',
    unit: 'reqpm',
    width: 3,
    height: 8,
    columns: true,
    stacked: 'sum',
    queries: [[perMinute(rate('idempotency_total'), 'outcome'), '{{outcome}}']],
    colours: { first: 'green', replayed: 'blue', '(unknown|broken|unavailable)': 'red' },
  }),
];
