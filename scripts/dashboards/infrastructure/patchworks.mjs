// Patchworks as the gateway sees it.
import { STATUS_COLOURS, timeseries } from '../panels.mjs';
import { metric, OF_ACCOUNT, perMinute, quantile, rate, sum } from '../queries.mjs';

export const upstream = [
  timeseries({
    title: 'Upstream requests by status',
    description:
      'Every attempt, by the status of Patchworks, or why there was none (timeout, reset, …). 5xx and reasons rise: Patchworks fails, and callers see it; stale answers bridge what a rule allows. 401: the credential.',
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
      'From sending to the headers of the answer. p99 near the timeout of the upstream: callers will get 504.',
    unit: 's',
    width: 8,
    height: 8,
    queries: [
      [quantile(0.5, 'upstream_request_duration_seconds', 'upstream'), '{{upstream}} p50'],
      [quantile(0.99, 'upstream_request_duration_seconds', 'upstream'), '{{upstream}} p99'],
    ],
  }),
  timeseries({
    title: 'Sent again, and not understood',
    description:
      'Retries after a 401 or a failure that is safe to repeat: each costs quota. Fields of Patchworks about its limit or freshness that could not be read: foreign use is seen late meanwhile; look at what stands between.',
    unit: 'short',
    width: 8,
    height: 8,
    columns: true,
    queries: [
      [sum(`increase(${metric('upstream_retries_total')}[$__rate_interval])`), 'sent again'],
      [
        sum(`increase(${metric('upstream_invalid_headers_total', OF_ACCOUNT)}[$__rate_interval])`, 'field'),
        '{{field}} not understood',
      ],
    ],
  }),
  timeseries({
    title: 'Replicas that send',
    description:
      'To each upstream, those whose breaker is not open. Fewer than there are replicas: nothing but probes goes from the others to that upstream, and their callers get 503 breaker_open or stale answers.',
    unit: 'short',
    width: 8,
    height: 8,
    queries: [[sum(`${metric('upstream_breaker_state')} < bool 2`, 'upstream'), '{{upstream}}']],
  }),
  timeseries({
    title: 'Under way',
    description:
      'Requests sent whose answers have not ended, on all replicas. At maxInFlight times the replicas others wait for one of them to end (patchgate_upstream_waiting): Patchworks is slow, or maxInFlight is low.',
    unit: 'short',
    width: 16,
    height: 8,
    queries: [[sum(metric('upstream_in_flight'), 'upstream'), '{{upstream}}']],
  }),
];
