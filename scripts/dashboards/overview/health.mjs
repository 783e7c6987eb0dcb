// Each panel is one number: if all are green, the rest of the dashboard needs no look.
import { stat } from '../panels.mjs';
import { inRange, metric, OF_ACCOUNT, ofAccount, orZero, perMinute, rate, replicas, share, sum } from '../queries.mjs';

const ONLY_IF_CACHED = sum(rate('rejections_total', 'code="only_if_cached"'));
const SERVER_ERRORS = `clamp_min(${orZero(sum(rate('http_requests_total', 'status=~"5.."')))} - ${orZero(ONLY_IF_CACHED)}, 0)`;

export const health = [
  stat({
    title: 'Replicas',
    description:
      'Replicas that Prometheus reaches, and those it does not. Down: look at the state of the pod in the orchestrator. The others go on, with the same ceiling.',
    unit: 'short',
    width: 3,
    height: 4,
    queries: [
      [replicas('up'), 'up'],
      [replicas('down'), 'down'],
    ],
    steps: [
      [null, 'green'],
      [1, 'red'],
    ],
    colours: { up: 'green' },
    noValue: '0',
  }),
  stat({
    title: 'Server errors',
    description:
      'Share of responses with 5xx, of Patchworks and of the gateway, without those to only-if-cached. Above 1 %: "Rejections by code" shows whether the gateway made them (docs/failure-modes.md), "Upstream requests by status" in Infrastructure whether Patchworks did.',
    unit: 'percentunit',
    decimals: 2,
    width: 3,
    height: 4,
    queries: [[share(SERVER_ERRORS, sum(rate('http_requests_total'))), '5xx']],
    steps: [
      [null, 'green'],
      [0.01, 'orange'],
      [0.05, 'red'],
    ],
    sparkline: true,
    noValue: 'no requests',
  }),
  stat({
    title: '429 responses',
    description:
      'Share of requests that got 429. A few are the quota at work. Many: "Rejections by code" shows whether a tenant has used its own share (tenant_quota) or the account is full (account_quota, queue_timeout), or a budget is used up (budget_exhausted).',
    unit: 'percentunit',
    decimals: 1,
    width: 3,
    height: 4,
    queries: [
      [share(orZero(sum(rate('http_requests_total', 'status="429"'))), sum(rate('http_requests_total'))), '429'],
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
    title: 'In cooldown',
    description:
      'Requests a minute that were rejected because Patchworks has asked the account to wait. Above 0: look at "External usage and queue" for other users of the account. The cooldown ends by itself.',
    unit: 'reqpm',
    decimals: 0,
    width: 3,
    height: 4,
    queries: [[orZero(perMinute(rate('quota_decisions_total', OF_ACCOUNT, 'decision="cooldown"'))), 'rejected']],
    steps: [
      [null, 'green'],
      [0.01, 'red'],
    ],
    sparkline: true,
  }),
  stat({
    title: 'Upstream 429s',
    description:
      '429s of Patchworks in the time shown. The ceiling keeps this at 0. Any is external usage, a limit that is set too high, or a fault.',
    unit: 'short',
    decimals: 0,
    width: 3,
    height: 4,
    queries: [[sum(inRange('upstream_throttled_total', OF_ACCOUNT)), '429s']],
    steps: [
      [null, 'green'],
      [0.5, 'red'],
    ],
  }),
  stat({
    title: 'Without Redis',
    description:
      'Replicas that do not reach Redis, and those that work on their own share of the ceiling meanwhile. Above 0: look at Redis. Requests are still served, but a busy replica cannot use the share of an idle one.',
    unit: 'short',
    width: 3,
    height: 4,
    queries: [
      [sum(`1 - ${metric('redis_up')}`), 'away'],
      [sum(metric('redis_fallback_active')), 'own share'],
    ],
    steps: [
      [null, 'green'],
      [1, 'red'],
    ],
  }),
  stat({
    title: 'Waiting for a slot',
    description:
      'Requests that wait now, on all replicas. Short waits are bursts. Constant waits mean that the account is too small for its tenants.',
    unit: 'short',
    width: 3,
    height: 4,
    queries: [[sum(metric('quota_waiting', OF_ACCOUNT)), 'waiting']],
    steps: [
      [null, 'green'],
      [20, 'orange'],
      [100, 'red'],
    ],
    sparkline: true,
  }),
  stat({
    title: 'External usage',
    description:
      'Slots of the minute that were used without the gateway, as far as X-RateLimit-Remaining shows. Above 0: find the users that still call Patchworks directly.',
    unit: 'short',
    width: 3,
    height: 4,
    queries: [[sum(ofAccount('quota_external_usage')), 'external']],
    steps: [
      [null, 'green'],
      [1, 'orange'],
      [60, 'red'],
    ],
    sparkline: true,
  }),
];
