// What the cache spares the account.

import { CACHE_COLOURS, stat, timeseries } from '../panels.mjs';
import { inRange, orZero, perMinute, rate, share, sum } from '../queries.mjs';
import { TENANT_LINK } from './link.mjs';

const SAVED = sum(inRange('upstream_requests_avoided_total'));
const SENT = sum(inRange('upstream_requests_total'));

export const savings = [
  stat({
    title: 'Calls saved',
    description:
      'Answers in the time shown that needed no request to Patchworks, and their share of all that would have been sent. Low: see which routes miss in the Tenant dashboard, and give them a ttl in cache.rules.',
    unit: 'short',
    decimals: 0,
    width: 4,
    height: 8,
    queries: [[orZero(SAVED), 'calls']],
  }),
  stat({
    title: 'Share saved',
    description:
      'Calls saved of calls saved and sent, in the time shown. Below what it was yesterday: a purge, a restart with an empty cache, or a new caller with queries of its own.',
    unit: 'percentunit',
    decimals: 1,
    width: 4,
    height: 8,
    queries: [[share(orZero(SAVED), `(${orZero(SAVED)} + ${SENT})`), 'saved']],
    noValue: 'no requests',
  }),
  timeseries({
    title: 'Calls saved by what',
    description:
      'hit: fresh in cache. stale: an old answer where a rule allows it. collapsed: joined a request that was under way. replay: a repeated write. Much stale: Patchworks fails or the account is full.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('upstream_requests_avoided_total'), 'by'), '{{by}}']],
    colours: CACHE_COLOURS,
  }),
  timeseries({
    title: 'Share saved by tenant',
    description:
      "Of a tenant's requests, those that needed no request to Patchworks. Low for one that reads a lot: it may send Cache-Control: no-cache, or a query that differs each time.",
    unit: 'percentunit',
    max: 1,
    width: 8,
    height: 8,
    queries: [
      [
        share(sum(rate('upstream_requests_avoided_total'), 'tenant'), sum(rate('http_requests_total'), 'tenant')),
        '{{tenant}}',
      ],
    ],
    link: TENANT_LINK,
  }),
];
