// One tenant: what it sends, what it gets, what it waits for, what it is refused, and until when its keys hold.
import { dashboard } from './frame.mjs';
import { bars, CACHE_COLOURS, CODE_COLOURS, STATUS_COLOURS, stat, table, timeseries } from './panels.mjs';
import { inRange, metric, OF_TENANT, orZero, perMinute, quantile, rate, share, sum } from './queries.mjs';

const REQUESTS = sum(rate('http_requests_total', OF_TENANT));

const EXPIRY = metric('tenant_key_expiry_timestamp_seconds', OF_TENANT);

const glance = [
  stat({
    title: 'Requests',
    description:
      'A minute, answered from cache or not. Nothing: the tenant does not call, or with a key of another tenant.',
    unit: 'reqpm',
    decimals: 0,
    width: 4,
    height: 4,
    queries: [[orZero(perMinute(rate('http_requests_total', OF_TENANT))), 'requests']],
    sparkline: true,
  }),
  stat({
    title: 'Refused',
    description:
      'Share of its requests that the gateway refused. Above 5 %: the panel "Refusals by code" says why, docs/failure-modes.md what to do.',
    unit: 'percentunit',
    decimals: 1,
    width: 4,
    height: 4,
    queries: [[share(orZero(sum(rate('rejections_total', OF_TENANT))), REQUESTS), 'refused']],
    steps: [
      [null, 'green'],
      [0.05, 'orange'],
      [0.25, 'red'],
    ],
    sparkline: true,
    noValue: 'no requests',
  }),
  stat({
    title: 'Latency, p95',
    description:
      'To the end of the answer, the wait for a slot included. High: compare with "Wait for a slot"; what is left is Patchworks.',
    unit: 's',
    width: 4,
    height: 4,
    queries: [[quantile(0.95, 'http_request_duration_seconds', '', OF_TENANT), 'p95']],
    steps: [
      [null, 'green'],
      [2, 'orange'],
      [5, 'red'],
    ],
    sparkline: true,
    noValue: 'no requests',
  }),
  stat({
    title: 'Answered without Patchworks',
    description:
      'Share of its requests that cost no quota: from cache, joined, replayed. Low for a tenant that reads the same again and again: see "Routes" for what misses.',
    unit: 'percentunit',
    decimals: 0,
    width: 4,
    height: 4,
    queries: [[share(orZero(sum(rate('upstream_requests_avoided_total', OF_TENANT))), REQUESTS), 'saved']],
    sparkline: true,
    noValue: 'no requests',
  }),
  stat({
    title: 'Share of the account',
    description:
      'What it was admitted, of all that was admitted in the time shown. Far above the others while they wait: lower its rate or its weight.',
    unit: 'percentunit',
    decimals: 0,
    width: 4,
    height: 4,
    queries: [
      [
        share(
          orZero(sum(inRange('quota_decisions_total', OF_TENANT, 'decision="admitted"'))),
          sum(inRange('quota_decisions_total', 'decision="admitted"')),
        ),
        'of the account',
      ],
    ],
    noValue: 'no requests',
  }),
  stat({
    title: 'First key to expire',
    description:
      'Until the first of its keys that still hold expires; a minus: none holds any more, since then. Below 14 days: make a new key, hand it over, take the old one out when it is no longer used (docs/operations.md).',
    unit: 'dtdurations',
    width: 4,
    height: 4,
    queries: [[`(min(${EXPIRY} > time()) or max(${EXPIRY})) - time()`, 'left']],
    steps: [
      [null, 'red'],
      [7 * 86_400, 'orange'],
      [14 * 86_400, 'green'],
    ],
    noValue: 'never',
  }),
];

const requests = [
  timeseries({
    title: 'Answers by status',
    description:
      'As the tenant sees them. 401 never appears here: without a valid key nobody is known. 499: it left first, so its own timeout is shorter than the wait.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('http_requests_total', OF_TENANT), 'status'), '{{status}}']],
    colours: STATUS_COLOURS,
  }),
  timeseries({
    title: 'Refusals by code',
    description:
      'tenant_quota: its own rate is used up. account_quota, queue_timeout: the account is full. route_forbidden: its allow list. docs/failure-modes.md has all.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    columns: true,
    queries: [[perMinute(rate('rejections_total', OF_TENANT), 'code'), '{{code}}']],
    colours: CODE_COLOURS,
  }),
  timeseries({
    title: 'Answers by cache',
    description:
      'none: not looked up, as for a write or a refusal. miss and bypass cost quota. Much bypass: it sends Cache-Control: no-cache, or no rule stores what it asks.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('http_requests_total', OF_TENANT), 'cache'), '{{cache}}']],
    colours: CACHE_COLOURS,
  }),
];

const quota = [
  timeseries({
    title: 'Decisions of the quota',
    description:
      'admitted, or by what it was refused: tenant (its own bucket), account (others were first), hold (Patchworks said 429), state (Redis could not be asked).',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('quota_decisions_total', OF_TENANT), 'decision'), '{{decision}}']],
    colours: { admitted: 'green', tenant: 'orange', account: 'red', hold: 'purple', state: 'dark-red' },
  }),
  timeseries({
    title: 'Wait for a slot',
    description:
      'Of the requests that needed one. Near maxWait: it is refused next. Its rate, its weight, or a reserved in tenants.yaml changes it.',
    unit: 's',
    width: 8,
    height: 8,
    queries: [
      [quantile(0.5, 'quota_wait_seconds', '', OF_TENANT), 'p50'],
      [quantile(0.95, 'quota_wait_seconds', '', OF_TENANT), 'p95'],
      [quantile(0.99, 'quota_wait_seconds', '', OF_TENANT), 'p99'],
    ],
  }),
  timeseries({
    title: 'Latency by cache, p95',
    description:
      'hit is the gateway alone; miss is the wait and Patchworks besides. A slow hit: look at event loop lag in Infrastructure.',
    unit: 's',
    width: 8,
    height: 8,
    queries: [[quantile(0.95, 'http_request_duration_seconds', 'cache', OF_TENANT), '{{cache}}']],
    colours: CACHE_COLOURS,
  }),
];

const details = [
  table({
    title: 'Routes',
    description:
      'Requests in the time shown by route, method and cache, and how long they took on average. What misses often and changes seldom wants a ttl in cache.rules.',
    unit: 'short',
    decimals: 0,
    width: 12,
    height: 9,
    queries: [[sum(inRange('http_requests_total', OF_TENANT), 'route, method, cache'), 'requests']],
  }),
  timeseries({
    title: 'Calls saved by what',
    description:
      'hit, stale, collapsed, replay: requests that Patchworks did not see. stale: Patchworks fails, or there is no slot to ask it.',
    unit: 'reqpm',
    width: 6,
    height: 9,
    stacked: 'sum',
    queries: [[perMinute(rate('upstream_requests_avoided_total', OF_TENANT), 'by'), '{{by}}']],
    colours: CACHE_COLOURS,
  }),
  bars({
    title: 'Keys until they expire',
    description:
      'By the id of the key; those that never expire are left out. Red: make a new one now, both work at the same time.',
    unit: 'dtdurations',
    width: 6,
    height: 9,
    queries: [[`min by (key) (${EXPIRY}) - time()`, '{{key}}']],
    steps: [
      [null, 'red'],
      [7 * 86_400, 'orange'],
      [14 * 86_400, 'green'],
    ],
    noValue: 'none expires',
  }),
];

export function tenant() {
  return dashboard({
    uid: 'patchgate-tenant',
    title: 'patchgate / Tenant',
    description: 'One tenant: its requests, its refusals and why, its waits, what the cache spares it, and its keys.',
    variables: ['datasource', 'namespace', 'job', 'tenant', 'instance'],
    rows: [
      { title: 'At a glance', panels: glance },
      { title: 'Requests', panels: requests },
      { title: 'Quota and latency', panels: quota },
      { title: 'Details', panels: details },
    ],
  });
}
