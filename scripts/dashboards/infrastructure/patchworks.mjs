// Patchworks as the gateway sees it.
import { STATUS_COLOURS, timeseries } from '../panels.mjs';
import { metric, OF_ACCOUNT, perMinute, quantile, rate, sum } from '../queries.mjs';

export const upstream = [
  timeseries({
    title: 'Upstream requests by status',
    description:
      'Every attempt, by the status of Patchworks, or the reason why there was none (timeout, reset, …). If 5xx and reasons rise, Patchworks fails, and callers see it; stale responses help where a rule allows them. 401: the credential.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('upstream_requests_total', OF_ACCOUNT), 'status'), '{{status}}']],
    colours: { ...STATUS_COLOURS, '[a-z_]+': 'dark-red' },
  }),
  timeseries({
    title: 'Latency of Patchworks',
    description:
      'From sending to the headers of the response. p99 near the timeout of the upstream: callers will get 504.',
    unit: 's',
    width: 8,
    height: 8,
    queries: [
      [quantile(0.5, 'upstream_request_duration_seconds', 'upstream'), '{{upstream}} p50'],
      [quantile(0.99, 'upstream_request_duration_seconds', 'upstream'), '{{upstream}} p99'],
    ],
  }),
  timeseries({
    title: 'Retries and invalid headers',
    description:
      'Retries after a 401 or a failure that is safe to repeat; each costs quota. Headers of Patchworks about its limit or freshness that could not be read: meanwhile external usage is noticed late. Look at the proxies in between.',
    unit: 'short',
    width: 8,
    height: 8,
    columns: true,
    queries: [
      [sum(`increase(${metric('upstream_retries_total')}[$__rate_interval])`), 'retries'],
      [
        sum(`increase(${metric('upstream_invalid_headers_total', OF_ACCOUNT)}[$__rate_interval])`, 'field'),
        '{{field}} invalid',
      ],
    ],
  }),
  timeseries({
    title: 'Replicas that send',
    description:
      'Replicas whose circuit breaker for the upstream is not open. Fewer than all replicas: the others send only probes to that upstream, and their callers get 503 breaker_open or stale responses.',
    unit: 'short',
    width: 8,
    height: 8,
    queries: [[sum(`${metric('upstream_breaker_state')} < bool 2`, 'upstream'), '{{upstream}}']],
  }),
  timeseries({
    title: 'Requests under way',
    description:
      'Sent requests whose responses have not ended, on all replicas. At maxInFlight times the replicas, others wait for a permit (patchgate_upstream_waiting): Patchworks is slow, or maxInFlight is low.',
    unit: 'short',
    width: 16,
    height: 8,
    queries: [[sum(metric('upstream_in_flight'), 'upstream'), '{{upstream}}']],
  }),
];
