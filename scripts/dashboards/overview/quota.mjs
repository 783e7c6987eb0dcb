// Use of the account by tenant, and external usage.

import { bars, timeseries } from '../panels.mjs';
import { metric, OF_ACCOUNT, ofAccount, perMinute, rate, slotsInUse, sum } from '../queries.mjs';
import { TENANT_LINK } from './link.mjs';

export const quota = [
  timeseries({
    title: 'Quota: used, ceiling and limit',
    description:
      'Slots in the window of 60 s, in use and external, beside the most that the gateway sends (ceiling) and that Patchworks allows (limit, as configured; advertised, as its responses say). The ceiling falls with a lower advertised limit. A slot is held from admission until 60 s after the response. Long at the ceiling: give tenants less, cache more, or buy a higher limit.',
    unit: 'short',
    width: 12,
    height: 9,
    queries: [
      [ofAccount('quota_limit'), '{{account}} limit'],
      [ofAccount('quota_ceiling'), '{{account}} ceiling'],
      [slotsInUse(), '{{account}} in use'],
      [ofAccount('quota_external_usage'), '{{account}} external'],
      [ofAccount('quota_limit_advertised'), '{{account}} advertised'],
    ],
    lines: ['.* limit', '.* advertised', '.* ceiling'],
    colours: { '.* limit': 'red', '.* advertised': 'yellow', '.* ceiling': 'orange', '.* external': 'purple' },
  }),
  bars({
    title: 'Used part of the ceiling',
    description:
      'Slots in use and external usage, by account. Above 90 % new requests begin to wait, and an alert fires after 10 minutes. "Admitted requests by tenant" shows the tenants.',
    unit: 'percentunit',
    max: 1,
    width: 4,
    height: 9,
    queries: [
      [`(${slotsInUse()} + ${ofAccount('quota_external_usage')}) / ${ofAccount('quota_ceiling')}`, '{{account}}'],
    ],
    steps: [
      [null, 'green'],
      [0.75, 'orange'],
      [0.9, 'red'],
    ],
  }),
  timeseries({
    title: 'Admitted requests by tenant',
    description:
      'Requests admitted to the account, which cost quota. A click leads to the tenant. If one crowds out others: lower its rate, or give the others a weight or a reserved rate.',
    unit: 'reqpm',
    width: 8,
    height: 9,
    stacked: 'sum',
    queries: [[perMinute(rate('quota_decisions_total', OF_ACCOUNT, 'decision="admitted"'), 'tenant'), '{{tenant}}']],
    calculations: ['mean', 'lastNotNull'],
    link: TENANT_LINK,
  }),
  timeseries({
    title: 'Requests past the cache, by resource',
    description:
      'Requests that were not served from the cache, by resource of Patchworks: what uses the quota. Rejected ones (429) are left out. A resource that is read often and changes seldom should get a ttl in cache.rules.',
    unit: 'reqpm',
    width: 24,
    height: 8,
    stacked: 'sum',
    queries: [
      [
        perMinute(
          rate('http_requests_total', 'tenant!="none"', 'cache!~"hit|stale|collapsed"', 'status!="429"'),
          'route',
        ),
        '{{route}}',
      ],
    ],
    calculations: ['mean', 'lastNotNull'],
  }),
];

export const others = [
  timeseries({
    title: 'External usage over time',
    description:
      'Usage without the gateway, as X-RateLimit-Remaining shows it. The gateway sends that much less. Find the users by the time: a script, a person in the dashboard, a service that was not moved.',
    unit: 'short',
    width: 8,
    height: 8,
    queries: [[ofAccount('quota_external_usage'), '{{account}}']],
    colours: { '.*': 'purple' },
  }),
  timeseries({
    title: '429s of Patchworks',
    description:
      'Each starts a cooldown on all replicas, until its Retry-After. With external usage beside it: others used the slots. Without: the configured limit is too high.',
    unit: 'short',
    width: 8,
    height: 8,
    columns: true,
    queries: [
      [sum(`increase(${metric('upstream_throttled_total', OF_ACCOUNT)}[$__rate_interval])`, 'account'), '{{account}}'],
    ],
    colours: { '.*': 'red' },
  }),
  timeseries({
    title: 'Admission queue',
    description:
      'Waiting requests, on all replicas. A queue that never empties is demand above the ceiling: requests are rejected with queue_timeout after maxWait.',
    unit: 'short',
    width: 8,
    height: 8,
    queries: [[sum(metric('quota_waiting', OF_ACCOUNT), 'account'), '{{account}}']],
  }),
];
