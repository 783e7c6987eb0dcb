// How much of the account is used, by whom, and whether others are on it.

import { bars, timeseries } from '../panels.mjs';
import { metric, OF_ACCOUNT, ofAccount, perMinute, rate, slotsInUse, sum } from '../queries.mjs';
import { TENANT_LINK } from './link.mjs';

export const quota = [
  timeseries({
    title: 'Quota: used, ceiling and limit',
    description:
      'Slots held in the window of 60 s, and what others hold, against what the gateway sends at most (ceiling) and what Patchworks allows (limit). A slot is held from admission until 60 s after the answer. Long at the ceiling: give tenants less, cache more, or buy a larger limit.',
    unit: 'short',
    width: 12,
    height: 9,
    queries: [
      [ofAccount('quota_limit'), '{{account}} limit'],
      [ofAccount('quota_ceiling'), '{{account}} ceiling'],
      [slotsInUse(), '{{account}} in use'],
      [ofAccount('quota_external_usage'), '{{account}} taken by others'],
    ],
    lines: ['.* limit', '.* ceiling'],
    colours: { '.* limit': 'red', '.* ceiling': 'orange', '.* taken by others': 'purple' },
  }),
  bars({
    title: 'Used of the ceiling',
    description:
      'Slots in use and taken by others, by account. Above 90 % new requests begin to wait; an alert tells of it after 10 minutes. "Who uses it" shows whose they are.',
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
    title: 'Who uses it',
    description:
      'Requests admitted to the account by tenant: what costs quota. A click leads to the tenant. One that crowds out others: lower its rate, or give the others a weight or a guarantee.',
    unit: 'reqpm',
    width: 8,
    height: 9,
    stacked: 'sum',
    queries: [[perMinute(rate('quota_decisions_total', OF_ACCOUNT, 'decision="admitted"'), 'tenant'), '{{tenant}}']],
    calculations: ['mean', 'lastNotNull'],
    link: TENANT_LINK,
  }),
];

export const others = [
  timeseries({
    title: 'Slots taken by others',
    description:
      'What X-RateLimit-Remaining shows to be used past the gateway. The gateway leaves it to them and sends less. Find them by the time: a script, a person in the dashboard, a service that was not moved.',
    unit: 'short',
    width: 8,
    height: 8,
    queries: [[ofAccount('quota_external_usage'), '{{account}}']],
    colours: { '.*': 'purple' },
  }),
  timeseries({
    title: '429s of Patchworks',
    description:
      'Each holds the account on all replicas until its Retry-After. With foreign use beside: others took the slots. Without: the limit in the configuration is higher than the truth.',
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
    title: 'Waiting for a slot',
    description:
      'Requests in line, on all replicas. A line that never empties is demand above the ceiling: they will be refused with queue_timeout after maxWait.',
    unit: 'short',
    width: 8,
    height: 8,
    queries: [[sum(metric('quota_waiting', OF_ACCOUNT), 'account'), '{{account}}']],
  }),
];
