// The dashboard of one tenant: its requests, rejections, waits, cache use, and the expiry of its keys.
import { dashboard } from './frame.mjs';
import { bars, CACHE_COLOURS, CODE_COLOURS, STATUS_COLOURS, stat, table, timeseries } from './panels.mjs';
import {
  budgetShare,
  inRange,
  metric,
  newest,
  OF_TENANT,
  orZero,
  perMinute,
  quantile,
  rate,
  share,
  sum,
} from './queries.mjs';

const REQUESTS = sum(rate('http_requests_total', OF_TENANT));

const EXPIRY = metric('tenant_key_expiry_timestamp_seconds', OF_TENANT);
const LAST_USED = metric('tenant_key_last_used_timestamp_seconds', OF_TENANT);

const glance = [
  stat({
    title: 'Requests',
    description:
      'Requests a minute, cached or not. Nothing: the tenant does not call, or calls with a key of another tenant.',
    unit: 'reqpm',
    decimals: 0,
    width: 4,
    height: 4,
    queries: [[orZero(perMinute(rate('http_requests_total', OF_TENANT))), 'requests']],
    sparkline: true,
  }),
  stat({
    title: 'Rejected',
    description:
      'Share of its requests that the gateway rejected. Above 5 %: "Rejections by code" shows the reason, docs/failure-modes.md what to do.',
    unit: 'percentunit',
    decimals: 1,
    width: 4,
    height: 4,
    queries: [
      [share(orZero(sum(rate('rejections_total', `${OF_TENANT},code!="client_closed"`))), REQUESTS), 'rejected'],
    ],
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
      'To the end of the response, the wait for a slot included. High: compare with "Wait for a slot"; the rest is Patchworks.',
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
    title: 'Share avoided',
    description:
      'Share of its requests that cost no quota: cached, joined, replayed. Low for a tenant that reads the same again and again: look at "Routes" for misses.',
    unit: 'percentunit',
    decimals: 0,
    width: 4,
    height: 4,
    queries: [[share(orZero(sum(rate('upstream_requests_avoided_total', OF_TENANT))), REQUESTS), 'avoided']],
    sparkline: true,
    noValue: 'no requests',
  }),
  stat({
    title: 'Share of the account',
    description:
      'Its admitted requests, as a part of all admitted requests in the time shown. Far above the others while they wait: lower its rate or its weight.',
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
      'Time until the first of its valid keys expires. A negative value: no key is valid any more, since then. Below 14 days: create a new key, hand it over, and remove the old one when it is no longer used (docs/operations.md).',
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
    title: 'Responses by status',
    description:
      'Responses as the tenant sees them. 401 never appears here: without a valid key the tenant is unknown. 499: it disconnected first, so its own timeout is shorter than the wait.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('http_requests_total', OF_TENANT), 'status'), '{{status}}']],
    colours: STATUS_COLOURS,
  }),
  timeseries({
    title: 'Rejections by code',
    description:
      'tenant_quota: its own rate is used up. account_quota, queue_timeout: the account is full. route_forbidden: its allow list. docs/failure-modes.md has all codes.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    columns: true,
    queries: [[perMinute(rate('rejections_total', OF_TENANT), 'code'), '{{code}}']],
    colours: CODE_COLOURS,
  }),
  timeseries({
    title: 'Responses by cache',
    description:
      'none: no lookup, as for a write or a rejection. miss and bypass cost quota. Much bypass: it sends Cache-Control: no-cache, or no rule stores these resources.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('http_requests_total', OF_TENANT), 'cache'), '{{cache}}']],
    colours: CACHE_COLOURS,
  }),
];

const budgets = [
  bars({
    title: 'Part of a budget: used',
    description:
      'Requests of the present day or month that count, as a part of what tenants.<id>.budgets allows. At 100 % the tenant gets 429 budget_exhausted until the reset.',
    unit: 'percentunit',
    max: 1,
    width: 12,
    height: 6,
    queries: [[budgetShare('tenant_budget', 'tenant', OF_TENANT), '{{budget}}']],
    steps: [
      [null, 'green'],
      [0.8, 'orange'],
      [1, 'red'],
    ],
    noValue: 'no part of its own',
  }),
  timeseries({
    title: 'Budget use',
    description: 'Requests of the present period that count. It falls to 0 at the reset.',
    unit: 'short',
    width: 12,
    height: 6,
    queries: [[newest(metric('tenant_budget_used', OF_TENANT), 'budget'), '{{budget}}']],
    noValue: 'no budgets',
  }),
];

const quota = [
  timeseries({
    title: 'Would be rejected, by code',
    description:
      'Requests that passed because the tenant has enforcement: observe, and that its rate or allow would have rejected. Empty for an enforced tenant. Long at zero: it can be enforced.',
    unit: 'reqpm',
    width: 24,
    height: 6,
    stacked: 'sum',
    queries: [[perMinute(rate('would_reject_total', OF_TENANT), 'code'), '{{code}}']],
    colours: CODE_COLOURS,
  }),
  timeseries({
    title: 'Decisions of the quota',
    description:
      'admitted, or the reason of a rejection: tenant (its own bucket), account (others were first), cooldown (after a 429 of Patchworks), budget (nothing is left of a budget), state (Redis did not respond).',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('quota_decisions_total', OF_TENANT), 'decision'), '{{decision}}']],
    colours: {
      admitted: 'green',
      tenant: 'orange',
      account: 'red',
      cooldown: 'purple',
      budget: 'dark-orange',
      state: 'dark-red',
    },
  }),
  timeseries({
    title: 'Wait for a slot',
    description:
      'Waits of the requests that needed a slot. Near maxWait: rejections come next. Its rate, weight or reserved rate in tenants.yaml changes it.',
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
      'hit is the gateway alone; miss also has the wait and Patchworks. A slow hit: look at event loop lag in Infrastructure.',
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
      'Requests in the time shown by route, method and cache. A route that misses often and changes seldom should get a ttl in cache.rules.',
    unit: 'short',
    decimals: 0,
    width: 8,
    height: 9,
    queries: [[sum(inRange('http_requests_total', OF_TENANT), 'route, method, cache'), 'requests']],
  }),
  timeseries({
    title: 'Requests avoided, by reason',
    description:
      'hit, stale, collapsed, replay: requests that Patchworks did not receive. stale: Patchworks fails, or there is no slot to ask it.',
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
      'By the id of the key, without those that never expire. 0: it has expired. Red: create a new one now; both work at the same time.',
    unit: 'dtdurations',
    width: 5,
    height: 9,
    queries: [[`clamp_min(min by (key) (${EXPIRY}) - time(), 0)`, '{{key}}']],
    steps: [
      [null, 'red'],
      [7 * 86_400, 'orange'],
      [14 * 86_400, 'green'],
    ],
    noValue: 'none expires',
  }),
  bars({
    title: 'Keys since their last use',
    description:
      'By the id of the key, over all replicas where there is Redis, else since the start of each. A key that is not here was not used: after a rotation the old one can be removed.',
    unit: 'dtdurations',
    width: 5,
    height: 9,
    queries: [[`time() - max by (key) (${LAST_USED})`, '{{key}}']],
    steps: [
      [null, 'green'],
      [30 * 86_400, 'orange'],
    ],
    noValue: 'none was used',
  }),
];

export function tenant() {
  return dashboard({
    uid: 'patchgate-tenant',
    title: 'patchgate / Tenant',
    description: 'One tenant: its requests, rejections by code, waits, cache use, and keys.',
    variables: ['datasource', 'namespace', 'job', 'tenant', 'instance'],
    rows: [
      { title: 'At a glance', panels: glance },
      { title: 'Requests', panels: requests },
      { title: 'Quota and latency', panels: quota },
      { title: 'Budgets', panels: budgets },
      { title: 'Details', panels: details },
    ],
  });
}
