// Requests that the cache avoids.

import { CACHE_COLOURS, stat, timeseries } from '../panels.mjs';
import { inRange, orZero, perMinute, rate, share, sum } from '../queries.mjs';
import { TENANT_LINK } from './link.mjs';

const AVOIDED = sum(inRange('upstream_requests_avoided_total'));
const SENT = sum(inRange('upstream_requests_total'));

export const savings = [
  stat({
    title: 'Requests avoided',
    description:
      'Responses in the time shown that needed no request to Patchworks. Low: look in the Tenant dashboard for routes that miss, and give them a ttl in cache.rules.',
    unit: 'short',
    decimals: 0,
    width: 4,
    height: 8,
    queries: [[orZero(AVOIDED), 'requests']],
  }),
  stat({
    title: 'Share avoided',
    description:
      'Avoided requests as a part of avoided and sent ones, in the time shown. Below yesterday: a purge, a restart with an empty cache, or a new caller with queries of its own.',
    unit: 'percentunit',
    decimals: 1,
    width: 4,
    height: 8,
    queries: [[share(orZero(AVOIDED), `(${orZero(AVOIDED)} + ${SENT})`), 'avoided']],
    noValue: 'no requests',
  }),
  timeseries({
    title: 'Requests avoided, by reason',
    description:
      'hit: fresh in cache. stale: an old response where a rule allows it. collapsed: joined a request that was under way. replay: a repeated write. Much stale: Patchworks fails or the account is full.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('upstream_requests_avoided_total'), 'by'), '{{by}}']],
    colours: CACHE_COLOURS,
  }),
  timeseries({
    title: 'Share avoided, by tenant',
    description:
      "The part of a tenant's requests that needed no request to Patchworks. Low for one that reads a lot: it may send Cache-Control: no-cache, or a query that differs each time.",
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
