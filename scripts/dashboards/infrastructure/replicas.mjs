// Running replicas, their versions, and their shared state.
import { stat, states, table, timeseries } from '../panels.mjs';
import { inRange, metric, processMetric, replicas, sum } from '../queries.mjs';

const perReplica = '{{instance}}';

export const running = [
  stat({
    title: 'Replicas',
    description:
      'Replicas that Prometheus reaches, and those it does not. Down while its pod runs: the admin port, its token, or a NetworkPolicy.',
    unit: 'short',
    width: 4,
    height: 6,
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
  table({
    title: 'Running versions',
    description:
      'Version, Node, start and configuration of each replica. Different versions for longer than a rollout, or another revision than the rest: that replica missed a change, restart it. Last load refused: the log of that replica names the line.',
    unit: 'short',
    width: 14,
    height: 6,
    queries: [
      [sum(metric('build_info'), 'instance, version, node'), 'running'],
      [sum(metric('config_info'), 'instance, revision'), 'in use'],
      [`1000 * max by (instance) (${processMetric('process_start_time_seconds')})`, 'started'],
      [`1000 * max by (instance) (${metric('config_last_success_timestamp_seconds')})`, 'loaded'],
      [`max by (instance) (${metric('config_last_reload_successful')})`, 'last load'],
    ],
    units: { started: 'dateTimeFromNow', loaded: 'dateTimeFromNow' },
    hidden: ['running', 'in use'],
    words: { 'last load': { 0: ['refused', 'red'], 1: ['ok', 'green'] } },
  }),
  stat({
    title: 'Log lines lost',
    description:
      'Lost lines in the time shown, because the reader of standard output was too slow. Above 0: look at the log collector of the node; the access log has gaps.',
    unit: 'short',
    decimals: 0,
    width: 3,
    height: 6,
    queries: [[sum(inRange('log_lines_dropped_total')), 'lines']],
    steps: [
      [null, 'green'],
      [0.5, 'orange'],
      [1_000, 'red'],
    ],
  }),
  stat({
    title: 'In flight',
    description:
      'Requests whose response has not ended, on all replicas. A rise without end: Patchworks hangs, look at its latency below.',
    unit: 'short',
    width: 3,
    height: 6,
    queries: [[sum(metric('http_requests_in_flight')), 'in flight']],
    sparkline: true,
  }),
];

export const redis = [
  states({
    title: 'Shared state',
    description:
      'Whether each replica reaches Redis. Red: it works on its own share of the ceiling, or answers 503 where onOutage is closed. All red: Redis is down. One red: its network.',
    unit: 'short',
    width: 6,
    height: 6,
    queries: [[metric('redis_up'), perReplica]],
    values: { 1: ['up', 'green'], 0: ['down', 'red'] },
  }),
  states({
    title: 'Own share of the ceiling',
    description:
      'Replicas that work without Redis on an equal part of the ceiling. They return by themselves a second after Redis does. Together they never send more than the ceiling.',
    unit: 'short',
    width: 6,
    height: 6,
    queries: [[metric('redis_fallback_active'), perReplica]],
    values: { 1: ['own share', 'red'], 0: ['shared', 'green'] },
  }),
  timeseries({
    title: 'Replicas that count together',
    description:
      'As each replica reports, by account. Fewer than all: that replica does not count with the others, and together they may send more than the ceiling. Look for another Redis, or another prefix, in its configuration.',
    unit: 'short',
    decimals: 0,
    width: 6,
    height: 6,
    queries: [[metric('quota_replicas'), '{{account}} {{instance}}']],
  }),
  timeseries({
    title: 'Abuse limits without Redis',
    description:
      'Times that an abuse limit (failed keys, floods) counted in one process alone. It goes on, with a limit for each replica. Look at Redis.',
    unit: 'short',
    width: 6,
    height: 6,
    columns: true,
    stacked: 'sum',
    queries: [[sum(`increase(${metric('guard_fallbacks_total')}[$__rate_interval])`, 'guard'), '{{guard}}']],
    noValue: 'never',
  }),
];
