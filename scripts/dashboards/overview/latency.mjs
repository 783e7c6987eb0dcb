// Latency of responses, and its parts.

import { timeseries } from '../panels.mjs';
import { quantile, rate, sum } from '../queries.mjs';
import { TENANT_LINK } from './link.mjs';

/** Seconds that requests spent, for each second. Requests that joined an in-flight fetch spent its time, and are left out. */
const TOTAL = sum(rate('http_request_duration_seconds_sum', 'cache!="collapsed"'));
const WAITED = sum(rate('quota_wait_seconds_sum'));
const UPSTREAM = sum(rate('upstream_request_duration_seconds_sum'));
const COUNT = `(${sum(rate('http_request_duration_seconds_count', 'cache!="collapsed"'))} > 0)`;

export const latency = [
  timeseries({
    title: 'Latency',
    description:
      'From the arrival of a request to the end of its response, the wait for a slot included. If it rises, the panel beside shows the cause.',
    unit: 's',
    width: 8,
    height: 8,
    queries: [
      [quantile(0.5, 'http_request_duration_seconds', ''), 'p50'],
      [quantile(0.95, 'http_request_duration_seconds', ''), 'p95'],
      [quantile(0.99, 'http_request_duration_seconds', ''), 'p99'],
    ],
  }),
  timeseries({
    title: 'Where the time goes',
    description:
      'Parts of the time of an average request: wait for a slot, Patchworks up to its headers, and the rest, which is the gateway itself and the transfer of the body. Wait: too little quota. Patchworks: its latency is in Infrastructure. Gateway: look at event loop and CPU there.',
    unit: 's',
    width: 8,
    height: 8,
    stacked: 'percent',
    queries: [
      [`${WAITED} / ${COUNT}`, 'wait for a slot'],
      [`${UPSTREAM} / ${COUNT}`, 'Patchworks'],
      [`clamp_min(${TOTAL} - ${WAITED} - ${UPSTREAM}, 0) / ${COUNT}`, 'gateway'],
    ],
    colours: { 'wait for a slot': 'orange', Patchworks: 'blue', gateway: 'green' },
  }),
  timeseries({
    title: 'Wait for a slot, p95',
    description:
      'Waits of the requests that needed a slot; at most maxWait of the tenant, or the wait that the request asked for. One tenant only: its rate is too low, or it sends in bursts. All tenants: the account is full.',
    unit: 's',
    width: 8,
    height: 8,
    queries: [[quantile(0.95, 'quota_wait_seconds', 'tenant'), '{{tenant}}']],
    link: TENANT_LINK,
  }),
];
